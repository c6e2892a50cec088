#include "ops/ops.h"

namespace cambium {

Tensor contrastive(Session& s, const Tensor& image, const Tensor& text, const Tensor& labels, const Tensor& scale, bool log_scale, double margin,
                   double epsilon) {
  expect_type("contrastive", "image", image, DType::f32);
  expect_type("contrastive", "text", text, DType::f32);
  expect_type("contrastive", "labels", labels, DType::i32);
  expect_type("contrastive", "scale", scale, DType::f32);
  const int64_t n = image->rows(), p = image->width();
  if (n < 1) fail("E_SHAPE", "contrastive: expected at least one pair, got none");
  expect_shape("contrastive", "text", text, image->shape);
  if (labels->count() != n) fail("E_SHAPE", "contrastive: expected %lld labels, got %s", static_cast<long long>(n), labels->shape.text().c_str());
  if (scale->count() != 1) fail("E_SHAPE", "contrastive: expected a scale of one element, got %s", scale->shape.text().c_str());
  if (!(epsilon >= 0 && epsilon < 1)) fail("E_ARGUMENT", "contrastive: expected epsilon in [0, 1), got %g", epsilon);
  const bool wants = s.tape().wants({image, text, scale});
  Tensor rows = s.empty({n}, DType::f32, "contrastive"), columns = s.empty({n}, DType::f32, "contrastive");
  Tensor loss = s.empty({1}, DType::f32, "contrastive");
  contrastive_args a{};
  a.n = n, a.p = p, a.image = image->data<float>(), a.text = text->data<float>(), a.labels = labels->data<int32_t>();
  a.scale = scale->data<float>(), a.log_scale = log_scale, a.margin = static_cast<float>(margin), a.epsilon = static_cast<float>(epsilon);
  a.row_lse = rows->data<float>(), a.column_lse = columns->data<float>(), a.loss = loss->data<float>();
  s.run("contrastive", s.backend().contrastive_forward, a);
  if (!wants) return loss;
  s.tape().record("contrastive", {loss},
                  [&s, a, vi = Var(image), vt = Var(text), vs = Var(scale), vy = Var(loss), si = Saved(image), st = Saved(text), sl = Saved(labels), ss = Saved(scale),
                   rows, columns](Gradients& g) {
                    const Tensor dy = g.take(vy);
                    if (!dy) return;
                    si.get("contrastive"), st.get("contrastive"), sl.get("contrastive"), ss.get("contrastive");
                    const Slot di = g.slot(vi), dt = g.slot(vt), ds = g.slot(vs);
                    contrastive_grads b{};
                    b.dy = dy->data<float>();
                    b.dimage = di.data<float>(), b.dtext = dt.data<float>(), b.dscale = ds.data<float>();
                    b.dimage_accumulate = di.accumulate, b.dtext_accumulate = dt.accumulate, b.dscale_accumulate = ds.accumulate;
                    s.run_backward("contrastive", s.backend().contrastive_backward, a, b);
                  });
  return loss;
}

}  // namespace cambium

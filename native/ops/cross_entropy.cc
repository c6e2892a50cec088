#include "ops/ops.h"

namespace cambium {

Tensor cross_entropy(Session& s, const Tensor& logits, const CrossEntropyOptions& o) {
  expect_type("cross_entropy", "logits", logits, DType::f32);
  const int64_t n = logits->rows(), c = logits->width();
  if (logits->shape.rank() != 2 || c < 1) fail("E_SHAPE", "cross_entropy: expected logits [N, C] of at least one class, got %s", logits->shape.text().c_str());
  if (!o.labels == !o.teacher) fail("E_ARGUMENT", "cross_entropy: expected either labels or a teacher, got %s", o.labels ? "both" : "none");
  if (o.labels) {
    expect_type("cross_entropy", "labels", o.labels, DType::i32);
    expect_shape("cross_entropy", "labels", o.labels, {n});
  } else {
    expect_type("cross_entropy", "teacher", o.teacher, DType::f32);
    expect_shape("cross_entropy", "teacher", o.teacher, logits->shape);
  }
  if (o.scale) expect_type("cross_entropy", "scale", o.scale, DType::f32);
  if (o.scale && o.scale->count() != 1) fail("E_SHAPE", "cross_entropy: expected a scale of one element, got %s", o.scale->shape.text().c_str());
  if (!(o.smoothing >= 0 && o.smoothing <= 1) || (o.teacher && o.smoothing != 0))
    fail("E_ARGUMENT", "cross_entropy: expected smoothing in [0, 1], of labels alone, got %g", o.smoothing);
  if (!(o.temperature > 0)) fail("E_ARGUMENT", "cross_entropy: expected a temperature above 0, got %g", o.temperature);
  Tensor lse = s.empty({n}, DType::f32, "cross_entropy"), teacher_lse = o.teacher ? s.empty({n}, DType::f32, "cross_entropy") : nullptr;
  Tensor loss = s.empty({1}, DType::f32, "cross_entropy");
  cross_entropy_args a{};
  a.n = n, a.c = c, a.logits = logits->data<float>();
  a.labels = o.labels ? o.labels->data<int32_t>() : nullptr, a.teacher = o.teacher ? o.teacher->data<float>() : nullptr;
  a.scale = o.scale ? o.scale->data<float>() : nullptr, a.log_scale = o.log_scale;
  a.smoothing = static_cast<float>(o.smoothing), a.temperature = static_cast<float>(o.temperature);
  a.lse = lse->data<float>(), a.teacher_lse = teacher_lse ? teacher_lse->data<float>() : nullptr, a.loss = loss->data<float>();
  s.run("cross_entropy", s.backend().cross_entropy_forward, a);
  if (!s.tape().wants({logits, o.scale})) return loss;
  s.tape().record("cross_entropy", {loss},
                  [&s, a, vl = Var(logits), vs = o.scale ? Var(o.scale) : Var(), vy = Var(loss), sl = Saved(logits), sc = Saved(o.labels), st = Saved(o.teacher),
                   ss = Saved(o.scale), lse, teacher_lse](Gradients& g) {
                    const Tensor dy = g.take(vy);
                    if (!dy) return;
                    for (const Saved* saved : {&sl, &sc, &st, &ss}) saved->get("cross_entropy");
                    const Slot dl = g.slot(vl), ds = g.slot(vs);
                    s.run_backward("cross_entropy", s.backend().cross_entropy_backward, a,
                                   cross_entropy_grads{nullptr, dy->data<float>(), dl.data<float>(), ds.data<float>(), dl.accumulate, ds.accumulate});
                  });
  return loss;
}

}  // namespace cambium

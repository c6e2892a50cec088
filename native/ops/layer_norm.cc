#include "ops/ops.h"

namespace cambium {

Tensor layer_norm(Session& s, const Tensor& x, const Tensor& weight, const Tensor& bias, double eps, DType out) {
  expect_float("layer_norm", "x", x);
  expect_type("layer_norm", "weight", weight, DType::f32);
  expect_shape("layer_norm", "weight", weight, {x->width()});
  if (bias) {
    expect_type("layer_norm", "bias", bias, DType::f32);
    expect_shape("layer_norm", "bias", bias, {x->width()});
  }
  if (!(eps > 0)) fail("E_ARGUMENT", "layer_norm: expected eps above 0, got %g", eps);
  const bool wants = s.tape().wants({x, weight, bias});
  Tensor y = s.empty(x->shape, out, "layer_norm");
  Tensor normalized = wants ? s.empty(x->shape, out, "layer_norm") : nullptr;
  Tensor rstd = wants ? s.empty({x->rows()}, DType::f32, "layer_norm") : nullptr;
  layer_norm_args a{};
  a.m = x->rows(), a.d = x->width(), a.x = x->data(), a.x_type = code(x->dtype);
  a.weight = weight->data<float>(), a.bias = bias ? bias->data<float>() : nullptr, a.eps = static_cast<float>(eps);
  a.y = y->data(), a.y_type = code(out);
  a.normalized = wants ? normalized->data() : nullptr, a.rstd = wants ? rstd->data<float>() : nullptr;
  s.run("layer_norm", s.backend().layer_norm_forward, a);
  if (!wants) return y;
  s.tape().record("layer_norm", {y},
                  [&s, a, vx = Var(x), vw = Var(weight), vb = Var(bias), vy = Var(y), sw = Saved(weight), normalized, rstd](Gradients& g) {
                    const Tensor dy = g.take(vy);
                    if (!dy) return;
                    sw.get("layer_norm");
                    const Slot dx = g.slot(vx), dw = g.slot(vw), db = g.slot(vb);
                    layer_norm_grads b{};
                    b.dy = dy->data();
                    b.dx = dx.data(), b.dx_type = type_of(dx), b.dx_accumulate = dx.accumulate;
                    b.dweight = dw.data<float>(), b.dweight_accumulate = dw.accumulate;
                    b.dbias = db.data<float>(), b.dbias_accumulate = db.accumulate;
                    s.run_backward("layer_norm", s.backend().layer_norm_backward, a, b);
                  });
  return y;
}

}  // namespace cambium

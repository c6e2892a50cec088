#include "ops/ops.h"

namespace cambium {

Tensor class_tokens(Session& s, const Tensor& x, const Tensor& cls, const Tensor& position, int64_t batch) {
  expect_float("class_tokens", "x", x);
  expect_type("class_tokens", "cls", cls, DType::f32);
  expect_type("class_tokens", "position", position, DType::f32);
  const int64_t d = x->width();
  if (batch < 1 || x->rows() % batch != 0) fail("E_SHAPE", "class_tokens: expected rows for %lld samples, got %s", static_cast<long long>(batch), x->shape.text().c_str());
  const int64_t n = x->rows() / batch;
  if (cls->count() != d) fail("E_SHAPE", "class_tokens: expected cls [%lld], got %s", static_cast<long long>(d), cls->shape.text().c_str());
  expect_shape("class_tokens", "position", position, {n + 1, d});
  Tensor y = s.empty({batch * (n + 1), d}, DType::f32, "class_tokens");
  class_tokens_args a{batch, n, d, x->data(), code(x->dtype), cls->data<float>(), position->data<float>(), y->data<float>()};
  s.run("class_tokens", s.backend().class_tokens_forward, a);
  if (!s.tape().wants({x, cls, position})) return y;
  s.tape().record("class_tokens", {y}, [&s, a, vx = Var(x), vc = Var(cls), vp = Var(position), vy = Var(y)](Gradients& g) {
    const Tensor dy = g.take(vy);
    if (!dy) return;
    const Slot dx = g.slot(vx), dc = g.slot(vc), dp = g.slot(vp);
    class_tokens_grads b{};
    b.dy = dy->data<float>();
    b.dx = dx.data(), b.dx_type = type_of(dx), b.dx_accumulate = dx.accumulate;
    b.dcls = dc.data<float>(), b.dcls_accumulate = dc.accumulate;
    b.dposition = dp.data<float>(), b.dposition_accumulate = dp.accumulate;
    s.run_backward("class_tokens", s.backend().class_tokens_backward, a, b);
  });
  return y;
}

}  // namespace cambium

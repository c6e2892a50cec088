// Ops that move or weigh whole rows: gather_rows, scale_rows, l2_normalize.
#include "ops/ops.h"

namespace cambium {

Tensor gather_rows(Session& s, const Tensor& x, const Tensor& index) {
  expect_float("gather_rows", "x", x);
  expect_type("gather_rows", "index", index, DType::i32);
  Tensor y = s.empty({index->count(), x->width()}, x->dtype, "gather_rows");
  gather_rows_args a{index->count(), x->rows(), x->width(), x->data(), code(x->dtype), index->data<int32_t>(), y->data()};
  s.run("gather_rows", s.backend().gather_rows_forward, a);
  if (!s.tape().wants({x})) return y;
  s.tape().record("gather_rows", {y}, [&s, a, vx = Var(x), vy = Var(y), si = Saved(index)](Gradients& g) {
    const Tensor dy = g.take(vy);
    if (!dy) return;
    si.get("gather_rows");
    const Slot dx = g.slot(vx);
    s.run_backward("gather_rows", s.backend().gather_rows_backward, a, gather_rows_grads{nullptr, dy->data(), dx.data(), type_of(dx), dx.accumulate});
  });
  return y;
}

Tensor scale_rows(Session& s, const Tensor& x, const Tensor& factor, int64_t repeat) {
  expect_float("scale_rows", "x", x);
  expect_type("scale_rows", "factor", factor, DType::f32);
  if (repeat < 1 || factor->count() < 1) fail("E_ARGUMENT", "scale_rows: expected factors and repeat of at least 1, got %s and %lld", factor->shape.text().c_str(), static_cast<long long>(repeat));
  Tensor y = s.empty(x->shape, x->dtype, "scale_rows");
  scale_rows_args a{x->rows(), x->width(), factor->count(), repeat, x->data(), code(x->dtype), factor->data<float>(), y->data()};
  s.run("scale_rows", s.backend().scale_rows_forward, a);
  if (!s.tape().wants({x})) return y;
  s.tape().record("scale_rows", {y}, [&s, a, vx = Var(x), vy = Var(y), sf = Saved(factor)](Gradients& g) {
    const Tensor dy = g.take(vy);
    if (!dy) return;
    sf.get("scale_rows");
    const Slot dx = g.slot(vx);
    Tensor target = dx.gradient->dtype == static_cast<DType>(a.type) ? dx.gradient : s.empty(vx.shape, static_cast<DType>(a.type), "scale_rows");
    s.run_backward("scale_rows", s.backend().scale_rows_backward, a, scale_rows_grads{nullptr, dy->data(), target->data(), target == dx.gradient && dx.accumulate});
    if (target != dx.gradient) s.cast_into(target, dx.gradient, dx.accumulate);
  });
  return y;
}

Tensor l2_normalize(Session& s, const Tensor& x) {
  expect_type("l2_normalize", "x", x, DType::f32);
  Tensor y = s.empty(x->shape, DType::f32, "l2_normalize"), inverse = s.empty({x->rows()}, DType::f32, "l2_normalize");
  l2_normalize_args a{x->rows(), x->width(), x->data<float>(), y->data<float>(), inverse->data<float>()};
  s.run("l2_normalize", s.backend().l2_normalize_forward, a);
  if (!s.tape().wants({x})) return y;
  s.tape().record("l2_normalize", {y}, [&s, a, vx = Var(x), vy = Var(y), sy = Saved(y), inverse](Gradients& g) {
    const Tensor dy = g.take(vy);
    if (!dy) return;
    sy.get("l2_normalize");
    const Slot dx = g.slot(vx);
    s.run_backward("l2_normalize", s.backend().l2_normalize_backward, a, l2_normalize_grads{nullptr, dy->data<float>(), dx.data<float>(), dx.accumulate});
  });
  return y;
}

}  // namespace cambium

#include "ops/ops.h"

namespace cambium {

Tensor dropout(Session& s, const Tensor& x, const Tensor& offsets, const Tensor& keys, const Tensor& state, int64_t site, double p) {
  expect_float("dropout", "x", x);
  for (const auto& [name, t] : {std::pair{"offsets", offsets}, {"keys", keys}, {"state", state}}) expect_type("dropout", name, t, DType::i32);
  if (offsets->count() != keys->count() + 1) fail("E_SHAPE", "dropout: expected a key for each sample, got %s for offsets %s", keys->shape.text().c_str(), offsets->shape.text().c_str());
  expect_shape("dropout", "state", state, {3});
  if (!(p >= 0 && p < 1)) fail("E_ARGUMENT", "dropout: expected a probability in [0, 1), got %g", p);
  const Tensor y = s.empty(x->shape, x->dtype, "dropout");
  dropout_args a{x->rows(), x->width(), keys->count(), x->data(), code(x->dtype), static_cast<int32_t>(site), static_cast<float>(p),
                 offsets->data<int32_t>(), keys->data<int32_t>(), state->data<int32_t>(), y->data()};
  s.run("dropout", s.backend().dropout_forward, a);
  if (!s.tape().wants({x})) return y;
  s.tape().record("dropout", {y}, [&s, a, vx = Var(x), vy = Var(y), so = Saved(offsets), sk = Saved(keys), ss = Saved(state)](Gradients& g) {
    const Tensor dy = g.take(vy);
    if (!dy) return;
    so.get("dropout"), sk.get("dropout"), ss.get("dropout");
    const Slot dx = g.slot(vx);
    const DType type = static_cast<DType>(a.type);
    const Tensor target = dx.gradient->dtype == type ? dx.gradient : s.empty(vx.shape, type, "dropout");
    s.run_backward("dropout", s.backend().dropout_backward, a, dropout_grads{nullptr, dy->data(), target->data(), target == dx.gradient && dx.accumulate});
    if (target != dx.gradient) s.cast_into(target, dx.gradient, dx.accumulate);
  });
  return y;
}

}  // namespace cambium

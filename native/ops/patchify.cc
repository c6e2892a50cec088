#include "ops/ops.h"

namespace cambium {

Tensor patchify(Session& s, const Tensor& pixels, int64_t patch, DType out) {
  expect_type("patchify", "pixels", pixels, DType::f32);
  const Shape& shape = pixels->shape;
  if (shape.rank() != 4 || patch < 1 || shape[2] % patch != 0 || shape[3] % patch != 0)
    fail("E_SHAPE", "patchify: expected pixels [B, C, H, W] with H and W multiples of %lld, got %s", static_cast<long long>(patch), shape.text().c_str());
  const int64_t tokens = (shape[2] / patch) * (shape[3] / patch);
  Tensor y = s.empty({shape[0] * tokens, shape[1] * patch * patch}, out, "patchify");
  patchify_args a{shape[0], shape[1], shape[2], shape[3], patch, pixels->data<float>(), y->data(), code(out)};
  s.run("patchify", s.backend().patchify_forward, a);
  if (!s.tape().wants({pixels})) return y;
  s.tape().record("patchify", {y}, [&s, a, vx = Var(pixels), vy = Var(y)](Gradients& g) {
    Tensor dy = g.take(vy);
    if (!dy) return;
    const Slot dx = g.slot(vx);
    s.run_backward("patchify", s.backend().patchify_backward, a, patchify_grads{nullptr, dy->data(), dx.data<float>(), dx.accumulate});
  });
  return y;
}

}  // namespace cambium

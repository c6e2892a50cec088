#include "ops/ops.h"

namespace cambium {

Tensor low_rank_norm(Session& s, const Tensor& w, const Tensor& a, const Tensor& b, const Tensor& scale, int64_t row, int64_t m, bool inverse) {
  expect_float("low_rank_norm", "w", w);
  if (w->shape.rank() != 2 || row < 0 || m < 0 || row + m > w->rows())
    fail("E_SHAPE", "low_rank_norm: expected a matrix with rows %lld to %lld, got %s", static_cast<long long>(row), static_cast<long long>(row + m), w->shape.text().c_str());
  low_rank_norm_args f{m, w->width(), 0, row, w->data(), code(w->dtype), inverse, nullptr, nullptr, nullptr, nullptr};
  if (a || b || scale) {
    for (const auto& [name, t] : {std::pair{"a", a}, {"b", b}, {"scale", scale}}) {
      if (!t) fail("E_ARGUMENT", "low_rank_norm: expected a, b and scale together, got no %s", name);
      expect_type("low_rank_norm", name, t, DType::f32);
    }
    expect_shape("low_rank_norm", "a", a, {b->width(), w->width()});
    expect_shape("low_rank_norm", "b", b, {m, b->width()});
    expect_shape("low_rank_norm", "scale", scale, {1});
    f.rank = b->width(), f.a = a->data<float>(), f.b = b->data<float>(), f.scale = scale->data<float>();
  }
  const Tensor y = s.empty({m}, DType::f32, "low_rank_norm");
  f.y = y->data<float>();
  s.run("low_rank_norm", s.backend().low_rank_norm, f);
  return y;
}

}  // namespace cambium

// l2_normalize: y = x / max(‖x‖, 1e-12) row by row. Below the bound the divisor is constant, so dx = dy · inverse
// there.
#include "cpu/elementwise.h"
#include "cpu/kernels.h"

namespace cambium {
namespace CAMBIUM_LEVEL {
namespace {
constexpr double kSmallestNorm = 1e-12;
}  // namespace

int l2_normalize_forward(CbContext*, const l2_normalize_args* f) {
  const l2_normalize_args c = *f;
  for_rows(c.m, c.d, [=](int64_t row) {
    const float* x = c.x + row * c.d;
    float* y = c.y + row * c.d;
    vd squares{};
    for_lanes(0, c.d, [&](int64_t i, int n) {
      const vf v = n == W ? load(x + i) : load_n(x + i, n);
      add_double(squares, v, v);
    });
    const double norm = __builtin_sqrt(sum_double(squares));
    const float inverse = float(1.0 / (norm > kSmallestNorm ? norm : kSmallestNorm));
    if (c.inverse != nullptr) c.inverse[row] = inverse;
    const Input from(x, CB_F32);
    const Output to(y, CB_F32);
    for_lanes(0, c.d, [&](int64_t i, int n) { to.put(i, inverse * from.at(i, n), n); });
  });
  return CB_OK;
}

int l2_normalize_backward(CbContext*, const l2_normalize_grads* g) {
  if (g->dx == nullptr) return CB_OK;
  const l2_normalize_args c = *g->f;
  const bool accumulate = g->dx_accumulate;
  for_rows(c.m, c.d, [=](int64_t row) {
    const Input dy(g->dy + row * c.d, CB_F32), y(c.y + row * c.d, CB_F32);
    const Output dx(g->dx + row * c.d, CB_F32, accumulate);
    vd products{};
    for_lanes(0, c.d, [&](int64_t i, int n) { add_double(products, dy.at(i, n), y.at(i, n)); });
    const float inverse = c.inverse[row];
    const bool clamped = inverse >= float(1.0 / kSmallestNorm);
    const vf along = set(clamped ? 0.f : float(sum_double(products)));
    for_lanes(0, c.d, [&](int64_t i, int n) { dx.put(i, inverse * (dy.at(i, n) - along * y.at(i, n)), n); });
  });
  return CB_OK;
}

}  // namespace CAMBIUM_LEVEL
}  // namespace cambium

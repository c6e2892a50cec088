// scale_rows: y[i] = x[i] · factor[i / repeat % factors]. A zero factor gives zeros whatever x holds.
#include "cpu/elementwise.h"
#include "cpu/kernels.h"

namespace cambium {
namespace CAMBIUM_LEVEL {
namespace {

void run(const scale_rows_args& f, const void* from, void* to, bool accumulate) {
  const Input x(from, f.type);
  const Output y(to, f.type, accumulate);
  for_rows(f.m, f.d, [=](int64_t row) {
    const float factor = f.factor[row / f.repeat % f.factors];
    for_lanes(row * f.d, (row + 1) * f.d,
              [=](int64_t i, int n) { y.put(i, factor == 0 ? vf{} : factor * x.at(i, n), n); });
  });
}

}  // namespace

int scale_rows_forward(CbContext*, const scale_rows_args* f) {
  run(*f, f->x, f->y, false);
  return CB_OK;
}

int scale_rows_backward(CbContext*, const scale_rows_grads* g) {
  if (g->dx != nullptr) run(*g->f, g->dy, g->dx, g->dx_accumulate);
  return CB_OK;
}

}  // namespace CAMBIUM_LEVEL
}  // namespace cambium

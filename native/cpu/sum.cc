// sum: y[0] = factor · Σ x in f64, partial sums per block of elements added in order.
#include "cpu/elementwise.h"
#include "cpu/kernels.h"

namespace cambium {
namespace CAMBIUM_LEVEL {

int sum_forward(CbContext* context, const sum_args* f) {
  const Input x(f->x, f->type);
  double total;
  const bool ok = sum_elements(context, f->count, &total, [=](vd& t, int64_t i, int n) { add_double(t, x.at(i, n)); });
  if (!ok) return CB_OUT_OF_MEMORY;
  *f->y = float(total * double(f->factor));
  return CB_OK;
}

int sum_backward(CbContext*, const sum_grads* g) {
  if (g->dx == nullptr) return CB_OK;
  const Output dx(g->dx, g->f->type, g->dx_accumulate);
  const vf d = set(*g->dy * g->f->factor);
  elementwise(g->f->count, [=](int64_t i, int n) { dx.put(i, d, n); });
  return CB_OK;
}

}  // namespace CAMBIUM_LEVEL
}  // namespace cambium

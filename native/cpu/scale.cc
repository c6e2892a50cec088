// scale: y = s · x with s in device memory; ds = Σ dy ⊙ x in f64.
#include "cpu/elementwise.h"
#include "cpu/kernels.h"

namespace cambium {
namespace CAMBIUM_LEVEL {

int scale_forward(CbContext*, const scale_args* f) {
  const Input x(f->x, f->type);
  const Output y(f->y, f->type);
  const vf s = set(*f->s);
  elementwise(f->count, [=](int64_t i, int n) { y.put(i, s * x.at(i, n), n); });
  return CB_OK;
}

int scale_backward(CbContext* context, const scale_grads* g) {
  const Input x(g->f->x, g->f->type), dy(g->dy, g->f->type);
  if (g->dx != nullptr) {
    const Output dx(g->dx, g->f->type, g->dx_accumulate);
    const vf s = set(*g->f->s);
    elementwise(g->f->count, [=](int64_t i, int n) { dx.put(i, s * dy.at(i, n), n); });
  }
  if (g->ds != nullptr) {
    double ds;
    const bool ok = sum_elements(context, g->f->count, &ds,
                                 [=](vd& total, int64_t i, int n) { add_double(total, dy.at(i, n), x.at(i, n)); });
    if (!ok) return CB_OUT_OF_MEMORY;
    *g->ds = float(g->ds_accumulate ? double(*g->ds) + ds : ds);
  }
  return CB_OK;
}

}  // namespace CAMBIUM_LEVEL
}  // namespace cambium

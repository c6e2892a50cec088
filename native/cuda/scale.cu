// scale: y = s · x with s in device memory; ds = Σ dy ⊙ x in f64.
#include "cuda/kernels.h"
#include "cuda/reduce.h"

namespace cambium {
namespace cuda {
namespace {

struct Scale {
  Input x;
  const float* s;
  Output y;
  __device__ void operator()(int64_t i, int n) const {
    float v[kLanes];
    x.load(i, n, v);
    const float factor = *s;
#pragma unroll
    for (int j = 0; j < kLanes; ++j) v[j] *= factor;
    y.store(i, n, v);
  }
};

struct Along {
  Input x, dy;
  __device__ double operator()(int64_t i, int n) const {
    float a[kLanes], b[kLanes];
    x.load(i, n, a);
    dy.load(i, n, b);
    double total = 0;
#pragma unroll
    for (int j = 0; j < kLanes; ++j) total += double(a[j]) * double(b[j]);
    return total;
  }
};

}  // namespace

int scale_forward(CbContext* context, const scale_args* f) {
  return elementwise(context, f->count, Scale{{f->x, f->type}, f->s, {f->y, f->type, 0}});
}

int scale_backward(CbContext* context, const scale_grads* g) {
  const scale_args& f = *g->f;
  const Input dy{g->dy, f.type};
  if (g->dx != nullptr)
    if (const int status = elementwise(context, f.count, Scale{dy, f.s, {g->dx, f.type, g->dx_accumulate}}))
      return status;
  if (g->ds == nullptr) return CB_OK;
  return sum_elements(context, f.count, Along{{f.x, f.type}, dy}, {g->ds, g->ds_accumulate, 1.0});
}

}  // namespace cuda
}  // namespace cambium

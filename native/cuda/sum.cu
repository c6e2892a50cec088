// sum: y[0] = factor · Σ x in f64, partial sums per block of elements added in order.
#include "cuda/kernels.h"
#include "cuda/reduce.h"

namespace cambium {
namespace cuda {
namespace {

struct Sum {
  Input x;
  __device__ double operator()(int64_t i, int n) const {
    float v[kLanes];
    x.load(i, n, v);
    double total = 0;
#pragma unroll
    for (int j = 0; j < kLanes; ++j) total += double(v[j]);
    return total;
  }
};

struct Spread {
  const float* dy;
  float factor;
  Output dx;
  __device__ void operator()(int64_t i, int n) const {
    float v[kLanes];
    const float d = *dy * factor;
#pragma unroll
    for (int j = 0; j < kLanes; ++j) v[j] = d;
    dx.store(i, n, v);
  }
};

}  // namespace

int sum_forward(CbContext* context, const sum_args* f) {
  return sum_elements(context, f->count, Sum{{f->x, f->type}}, {f->y, 0, double(f->factor)});
}

int sum_backward(CbContext* context, const sum_grads* g) {
  if (g->dx == nullptr) return CB_OK;
  return elementwise(context, g->f->count, Spread{g->dy, g->f->factor, {g->dx, g->f->type, g->dx_accumulate}});
}

}  // namespace cuda
}  // namespace cambium

// scale_rows: y[i] = x[i] · factor[i / repeat % factors]. A zero factor gives zeros whatever x holds.
#include "cuda/elementwise.h"
#include "cuda/kernels.h"

namespace cambium {
namespace cuda {
namespace {

struct ScaleRow {
  Input x;
  const float* factor;
  int64_t repeat, factors, d;
  Output y;
  __device__ void operator()(int64_t row, int64_t i, int n) const {
    const float s = factor[row / repeat % factors];
    float v[kLanes];
    if (s != 0) x.load(row * d + i, n, v);
#pragma unroll
    for (int j = 0; j < kLanes; ++j) v[j] = s != 0 ? s * v[j] : 0.f;
    y.store(row * d + i, n, v);
  }
};

int run(CbContext* context, const scale_rows_args& f, const void* from, void* to, int32_t accumulate) {
  return for_rows(context, f.m, f.d,
                  ScaleRow{{from, f.type}, f.factor, f.repeat, f.factors, f.d, {to, f.type, accumulate}});
}

}  // namespace

int scale_rows_forward(CbContext* context, const scale_rows_args* f) { return run(context, *f, f->x, f->y, 0); }

int scale_rows_backward(CbContext* context, const scale_rows_grads* g) {
  return g->dx != nullptr ? run(context, *g->f, g->dy, g->dx, g->dx_accumulate) : CB_OK;
}

}  // namespace cuda
}  // namespace cambium

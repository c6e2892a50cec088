// layer_norm: y = (x − μ) · r · weight + bias, r = 1/√(σ² + eps), a warp a row. Statistics by two passes over the row
// in f32; a row is read from memory once and from the first-level cache after that. Backward of a row, with the saved x̂
// and g = dy ⊙ weight:  dx = r · (g − mean(g) − x̂ · mean(g ⊙ x̂)).
#include "cuda/column_sums.h"
#include "cuda/kernels.h"
#include "cuda/reduce.h"

namespace cambium {
namespace cuda {
namespace {

// f(i, n) for the runs of one lane over a row.
template <class F>
__device__ void for_lane(int64_t d, const F& f) {
  for (int64_t i = threadIdx.x % kWarp * kLanes; i < d; i += kWarp * kLanes) f(i, int(smaller(kLanes, d - i)));
}

__global__ void layer_norm_forward_kernel(layer_norm_args c) {
  const int64_t row = int64_t(blockIdx.x) * kRowsPerBlock + threadIdx.x / kWarp, at = row * c.d;
  if (row >= c.m) return;
  const Input x{c.x, c.x_type}, weight{c.weight, CB_F32}, bias{c.bias, CB_F32};
  float v[kLanes], w[kLanes], sum = 0, squares = 0;
  for_lane(c.d, [&](int64_t i, int n) {
    x.load(at + i, n, v);
#pragma unroll
    for (int j = 0; j < kLanes; ++j) sum += v[j];
  });
  const float mean = warp_sum(sum) / float(c.d);
  for_lane(c.d, [&](int64_t i, int n) {
    x.load(at + i, n, v);
#pragma unroll
    for (int j = 0; j < kLanes; ++j) squares += j < n ? (v[j] - mean) * (v[j] - mean) : 0.f;
  });
  const float rstd = 1.f / sqrtf(warp_sum(squares) / float(c.d) + c.eps);
  for_lane(c.d, [&](int64_t i, int n) {
    x.load(at + i, n, v);
#pragma unroll
    for (int j = 0; j < kLanes; ++j) v[j] = (v[j] - mean) * rstd;
    if (c.normalized != nullptr) Output{c.normalized, c.y_type, 0}.store(at + i, n, v);
    weight.load(i, n, w);
#pragma unroll
    for (int j = 0; j < kLanes; ++j) v[j] *= w[j];
    if (c.bias != nullptr) {
      bias.load(i, n, w);
#pragma unroll
      for (int j = 0; j < kLanes; ++j) v[j] += w[j];
    }
    Output{c.y, c.y_type, 0}.store(at + i, n, v);
  });
  if (c.rstd != nullptr && threadIdx.x % kWarp == 0) c.rstd[row] = rstd;
}

__global__ void layer_norm_backward_kernel(layer_norm_args c, Input dy, Output dx) {
  const int64_t row = int64_t(blockIdx.x) * kRowsPerBlock + threadIdx.x / kWarp, at = row * c.d;
  if (row >= c.m) return;
  const Input xhat{c.normalized, c.y_type}, weight{c.weight, CB_F32};
  float g[kLanes], x[kLanes], w[kLanes], sum = 0, along = 0;
  const auto load = [&](int64_t i, int n) {
    dy.load(at + i, n, g);
    xhat.load(at + i, n, x);
    weight.load(i, n, w);
#pragma unroll
    for (int j = 0; j < kLanes; ++j) g[j] *= w[j];
  };
  for_lane(c.d, [&](int64_t i, int n) {
    load(i, n);
#pragma unroll
    for (int j = 0; j < kLanes; ++j) sum += g[j], along += g[j] * x[j];
  });
  const float mean_g = warp_sum(sum) / float(c.d), mean_gx = warp_sum(along) / float(c.d), rstd = c.rstd[row];
  for_lane(c.d, [&](int64_t i, int n) {
    load(i, n);
#pragma unroll
    for (int j = 0; j < kLanes; ++j) g[j] = rstd * (g[j] - mean_g - x[j] * mean_gx);
    dx.store(at + i, n, g);
  });
}

struct WeightTerms {
  Input dy, xhat;
  int64_t d;
  __device__ void operator()(int64_t row, int64_t i, int n, float (&weight)[kLanes], float (&bias)[kLanes]) const {
    dy.load(row * d + i, n, bias);
    xhat.load(row * d + i, n, weight);
#pragma unroll
    for (int j = 0; j < kLanes; ++j) weight[j] *= bias[j];
  }
};

dim3 grid_of(int64_t m) { return dim3(unsigned(divide_up(m, kRowsPerBlock))); }

}  // namespace

int layer_norm_forward(CbContext* context, const layer_norm_args* f) {
  return f->m == 0 ? CB_OK : CB_LAUNCH(context, layer_norm_forward_kernel, grid_of(f->m), dim3(kThreads), 0, *f);
}

int layer_norm_backward(CbContext* context, const layer_norm_grads* g) {
  const layer_norm_args& f = *g->f;
  const Input dy{g->dy, f.y_type};
  if (g->dx != nullptr && f.m > 0) {
    const Output dx{g->dx, g->dx_type, g->dx_accumulate};
    if (const int status = CB_LAUNCH(context, layer_norm_backward_kernel, grid_of(f.m), dim3(kThreads), 0, f, dy, dx))
      return status;
  }
  if (g->dweight == nullptr && g->dbias == nullptr) return CB_OK;
  return column_sums(context, f.m, f.d, WeightTerms{dy, {f.normalized, f.y_type}, f.d},
                     {g->dweight, CB_F32, g->dweight_accumulate}, {g->dbias, CB_F32, g->dbias_accumulate});
}

}  // namespace cuda
}  // namespace cambium

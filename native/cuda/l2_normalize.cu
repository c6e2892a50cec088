// l2_normalize: y = x / max(‖x‖, 1e-12) row by row, a warp a row, sums in f64. Below the bound the divisor is constant,
// so dx = dy · inverse there.
#include "cuda/kernels.h"
#include "cuda/reduce.h"

namespace cambium {
namespace cuda {
namespace {

constexpr double kSmallestNorm = 1e-12;

// Σ a ⊙ b of a row, by one warp.
__device__ double row_product(const float* a, const float* b, int64_t d) {
  double total = 0;
  for (int64_t i = threadIdx.x % kWarp; i < d; i += kWarp) total += double(a[i]) * double(b[i]);
  return warp_sum(total);
}

__global__ void l2_forward_kernel(l2_normalize_args c) {
  const int64_t row = int64_t(blockIdx.x) * kRowsPerBlock + threadIdx.x / kWarp;
  if (row >= c.m) return;
  const float* const x = c.x + row * c.d;
  const double norm = sqrt(row_product(x, x, c.d));
  const float inverse = float(1.0 / (norm > kSmallestNorm ? norm : kSmallestNorm));
  if (c.inverse != nullptr && threadIdx.x % kWarp == 0) c.inverse[row] = inverse;
  for (int64_t i = threadIdx.x % kWarp; i < c.d; i += kWarp) c.y[row * c.d + i] = inverse * x[i];
}

__global__ void l2_backward_kernel(l2_normalize_args c, const float* dy, Output dx) {
  const int64_t row = int64_t(blockIdx.x) * kRowsPerBlock + threadIdx.x / kWarp;
  if (row >= c.m) return;
  const float inverse = c.inverse[row];
  const double product = row_product(dy + row * c.d, c.y + row * c.d, c.d);
  const float along = inverse >= float(1.0 / kSmallestNorm) ? 0.f : float(product);
  for (int64_t i = row * c.d + threadIdx.x % kWarp; i < (row + 1) * c.d; i += kWarp)
    dx.put(i, inverse * (dy[i] - along * c.y[i]));
}

}  // namespace

int l2_normalize_forward(CbContext* context, const l2_normalize_args* f) {
  if (f->m == 0) return CB_OK;
  return CB_LAUNCH(context, l2_forward_kernel, dim3(unsigned(divide_up(f->m, kRowsPerBlock))), dim3(kThreads), 0, *f);
}

int l2_normalize_backward(CbContext* context, const l2_normalize_grads* g) {
  if (g->dx == nullptr || g->f->m == 0) return CB_OK;
  return CB_LAUNCH(context, l2_backward_kernel, dim3(unsigned(divide_up(g->f->m, kRowsPerBlock))), dim3(kThreads), 0,
                   *g->f, g->dy, Output{g->dx, CB_F32, g->dx_accumulate});
}

}  // namespace cuda
}  // namespace cambium

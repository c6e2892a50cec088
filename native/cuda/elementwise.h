// How kernels walk over elements and rows. The work of a block depends on the shape alone.
#pragma once
#include "cuda/element.h"

namespace cambium {
namespace cuda {

constexpr int kThreads = 256, kWarp = 32, kRowsPerBlock = kThreads / kWarp;

// f(i, n) for every run of n <= 8 elements in [0, count).
template <class F>
__global__ void elementwise_kernel(int64_t count, F f) {
  const int64_t i = (int64_t(blockIdx.x) * kThreads + threadIdx.x) * kLanes;
  if (i < count) f(i, int(smaller(kLanes, count - i)));
}
template <class F>
int elementwise(CbContext* context, int64_t count, const F& f) {
  if (count == 0) return CB_OK;
  return CB_LAUNCH(context, (elementwise_kernel<F>), dim3(unsigned(divide_up(count, kThreads * kLanes))),
                   dim3(kThreads), 0, count, f);
}

// f(row, i, n) for every run of n <= 8 elements from column i of every row of an [m, d] matrix: a warp a row.
template <class F>
__global__ void rows_kernel(int64_t m, int64_t d, F f) {
  const int64_t row = int64_t(blockIdx.x) * kRowsPerBlock + threadIdx.x / kWarp;
  if (row >= m) return;
  for (int64_t i = threadIdx.x % kWarp * kLanes; i < d; i += kWarp * kLanes) f(row, i, int(smaller(kLanes, d - i)));
}
template <class F>
int for_rows(CbContext* context, int64_t m, int64_t d, const F& f) {
  if (m == 0 || d == 0) return CB_OK;
  return CB_LAUNCH(context, (rows_kernel<F>), dim3(unsigned(divide_up(m, kRowsPerBlock))), dim3(kThreads), 0, m, d, f);
}

}  // namespace cuda
}  // namespace cambium

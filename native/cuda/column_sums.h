// Sums down the columns of an [m, d] matrix, two at a time, while a kernel visits its elements: one partial sum for
// each block of rows, then the blocks in order.
#pragma once
#include "cuda/elementwise.h"

namespace cambium {
namespace cuda {

constexpr int kSumColumns = kWarp * kLanes, kMostBlocks = 256;  // columns of one block of threads; blocks of rows

// f(row, i, n, a, b): sets a and b to the terms of n <= 8 elements from column i on. partial [blocks, 2, d].
template <class F>
__global__ void column_partials_kernel(int64_t m, int64_t d, int64_t rows, F f, float* partial) {
  __shared__ float room[kRowsPerBlock][2][kSumColumns];
  const int lane = threadIdx.x % kWarp, part = threadIdx.x / kWarp;
  const int64_t i = int64_t(blockIdx.y) * kSumColumns + lane * kLanes;
  const int n = int(larger(0, smaller(kLanes, d - i)));
  const int64_t begin = int64_t(blockIdx.x) * rows, end = smaller(m, begin + rows);
  float sum[2][kLanes] = {};
  for (int64_t row = begin + part; n > 0 && row < end; row += kRowsPerBlock) {
    float a[kLanes], b[kLanes];
    f(row, i, n, a, b);
#pragma unroll
    for (int j = 0; j < kLanes; ++j) sum[0][j] += a[j], sum[1][j] += b[j];
  }
#pragma unroll
  for (int j = 0; j < kLanes; ++j)
    room[part][0][lane * kLanes + j] = sum[0][j], room[part][1][lane * kLanes + j] = sum[1][j];
  __syncthreads();
  const int64_t column = int64_t(blockIdx.y) * kSumColumns + threadIdx.x;
  if (column >= d) return;
  for (int which = 0; which < 2; ++which) {
    float total = 0;
    for (int p = 0; p < kRowsPerBlock; ++p) total += room[p][which][threadIdx.x];
    partial[(int64_t(blockIdx.x) * 2 + which) * d + column] = total;
  }
}

inline __global__ void column_totals_kernel(int64_t blocks, int64_t d, const float* partial, Output first,
                                            Output second) {
  const int64_t column = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (column >= d) return;
  float a = 0, b = 0;
  for (int64_t block = 0; block < blocks; ++block) {
    a += partial[block * 2 * d + column];
    b += partial[(block * 2 + 1) * d + column];
  }
  if (first.data != nullptr) first.put(column, a);
  if (second.data != nullptr) second.put(column, b);
}

template <class F>
int column_sums(CbContext* context, int64_t m, int64_t d, const F& f, Output first, Output second) {
  if (d == 0) return CB_OK;
  const int64_t rows = larger(8 * kRowsPerBlock, divide_up(divide_up(m, kMostBlocks), kRowsPerBlock) * kRowsPerBlock);
  const int64_t blocks = divide_up(m, rows);
  float* const partial = static_cast<float*>(context->scratch(context, size_t(blocks * 2 * d + 1) * sizeof(float)));
  if (partial == nullptr) return CB_OUT_OF_MEMORY;
  if (blocks > 0) {
    const dim3 grid(unsigned(blocks), unsigned(divide_up(d, kSumColumns)));
    if (const int status =
            CB_LAUNCH(context, (column_partials_kernel<F>), grid, dim3(kThreads), 0, m, d, rows, f, partial))
      return status;
  }
  return CB_LAUNCH(context, column_totals_kernel, dim3(unsigned(divide_up(d, kThreads))), dim3(kThreads), 0, blocks, d,
                   partial, first, second);
}

}  // namespace cuda
}  // namespace cambium

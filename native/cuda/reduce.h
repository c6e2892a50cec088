// Sums and maxima over the threads of a warp or a block, always in the same order.
#pragma once
#include <cmath>

#include "cuda/elementwise.h"
#include "cuda/warp.h"

namespace cambium {
namespace cuda {

// Every lane gets the result.
template <class T>
__device__ inline T warp_sum(T x) {
#pragma unroll
  for (int step = kWarp / 2; step > 0; step /= 2) x += __shfl_xor_sync(0xffffffffu, x, step);
  return x;
}
__device__ inline float warp_max(float x) {
#pragma unroll
  for (int step = kWarp / 2; step > 0; step /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, step));
  return x;
}

// Every thread of a block of kThreads gets the result. `room`: one T a warp, in shared memory; free again on return.
template <class T>
__device__ inline T block_sum(T x, T* room) {
  x = warp_sum(x);
  if (threadIdx.x % kWarp == 0) room[threadIdx.x / kWarp] = x;
  __syncthreads();
  T total = 0;
  for (int w = 0; w < kThreads / kWarp; ++w) total += room[w];
  __syncthreads();
  return total;
}
__device__ inline float block_max(float x, float* room) {
  x = warp_max(x);
  if (threadIdx.x % kWarp == 0) room[threadIdx.x / kWarp] = x;
  __syncthreads();
  float top = room[0];
  for (int w = 1; w < kThreads / kWarp; ++w) top = fmaxf(top, room[w]);
  __syncthreads();
  return top;
}

// *to (+)= total · factor, in f64 until it is kept.
struct Total {
  float* to;
  int32_t accumulate;
  double factor;
};
inline __global__ void total_kernel(int64_t parts, const double* partial, Total t) {
  __shared__ double room[kThreads / kWarp];
  double total = 0;
  for (int64_t i = threadIdx.x; i < parts; i += kThreads) total += partial[i];
  total = block_sum(total, room);
  if (threadIdx.x == 0) *t.to = float((t.accumulate ? double(*t.to) : 0.0) + total * t.factor);
}
// The sum of partial sums, in a fixed order.
inline int keep_total(CbContext* context, int64_t parts, const double* partial, Total t) {
  return CB_LAUNCH(context, total_kernel, dim3(1), dim3(kThreads), 0, parts, partial, t);
}

// The sum in f64 over [0, count): one partial sum a block, then these in order. f(i, n) gives the part of n <= 8
// elements from i on.
constexpr int64_t kSumElements = 16384;  // of one block

template <class F>
__global__ void partial_sums_kernel(int64_t count, F f, double* partial) {
  __shared__ double room[kThreads / kWarp];
  const int64_t begin = int64_t(blockIdx.x) * kSumElements, end = smaller(count, begin + kSumElements);
  double total = 0;
  for (int64_t i = begin + threadIdx.x * kLanes; i < end; i += kThreads * kLanes)
    total += f(i, int(smaller(kLanes, end - i)));
  total = block_sum(total, room);
  if (threadIdx.x == 0) partial[blockIdx.x] = total;
}

template <class F>
int sum_elements(CbContext* context, int64_t count, const F& f, Total t) {
  const int64_t parts = divide_up(count, kSumElements);
  double* const partial = static_cast<double*>(context->scratch(context, size_t(parts + 1) * sizeof(double)));
  if (partial == nullptr) return CB_OUT_OF_MEMORY;
  if (parts > 0)
    if (const int status =
            CB_LAUNCH(context, (partial_sums_kernel<F>), dim3(unsigned(parts)), dim3(kThreads), 0, count, f, partial))
      return status;
  return keep_total(context, parts, partial, t);
}

}  // namespace cuda
}  // namespace cambium

// Tensors as kernels see them: f32 or bf16 in memory, f32 in registers, eight neighbouring elements at a time. The type
// is a value of the launch, so that one kernel serves every combination; a branch on it is the same for all threads.
#pragma once
#include "cuda/launch.h"
#include "ops/backend.h"

namespace cambium {
namespace cuda {

constexpr int kLanes = 8;  // elements of one access: 16 bytes of bf16

struct alignas(16) Quad {
  uint32_t word[4];
};

__host__ __device__ inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
__host__ __device__ inline int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }
__host__ __device__ inline int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }
__host__ __device__ inline size_t size_of(int32_t type) { return type == CB_F32 ? 4 : 2; }

__device__ inline float float_of(uint32_t bits) {
  float x;
  memcpy(&x, &bits, 4);
  return x;
}
__device__ inline uint32_t bits_of(float x) {
  uint32_t bits;
  memcpy(&bits, &x, 4);
  return bits;
}

__device__ inline float widen(uint16_t bits) { return float_of(uint32_t(bits) << 16); }

// To nearest, ties to even; NaN stays NaN. Two of them side by side, the first in the lower half.
__device__ inline uint32_t narrow_pair(float low, float high) {
#if defined(__CUDA_ARCH__)
  uint32_t both;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
  return both;
#else
  const auto narrow = [](float x) {
    const uint32_t bits = bits_of(x);
    if ((bits & 0x7fffffff) > 0x7f800000) return uint32_t(0x7fff);
    return (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  };
  return narrow(low) | narrow(high) << 16;
#endif
}
__device__ inline uint16_t narrow(float x) { return uint16_t(narrow_pair(x, 0.f)); }

__device__ inline bool aligned(const void* at) { return (reinterpret_cast<uintptr_t>(at) & 15) == 0; }

// A tensor that is read.
struct Input {
  const void* data;
  int32_t type;
  __device__ float at(int64_t i) const {
    return type == CB_F32 ? static_cast<const float*>(data)[i] : widen(static_cast<const uint16_t*>(data)[i]);
  }
  // x = the n <= 8 elements from i on; zeros behind them.
  __device__ void load(int64_t i, int n, float (&x)[kLanes]) const {
    if (type == CB_F32) {
      const float* const from = static_cast<const float*>(data) + i;
      if (n == kLanes && aligned(from)) {
        const Quad low = reinterpret_cast<const Quad*>(from)[0], high = reinterpret_cast<const Quad*>(from)[1];
#pragma unroll
        for (int j = 0; j < 4; ++j) x[j] = float_of(low.word[j]), x[4 + j] = float_of(high.word[j]);
        return;
      }
#pragma unroll
      for (int j = 0; j < kLanes; ++j) x[j] = j < n ? from[j] : 0.f;
      return;
    }
    const uint16_t* const from = static_cast<const uint16_t*>(data) + i;
    if (n == kLanes && aligned(from)) {
      const Quad all = *reinterpret_cast<const Quad*>(from);
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        x[2 * j] = float_of(all.word[j] << 16);
        x[2 * j + 1] = float_of(all.word[j] & 0xffff0000);
      }
      return;
    }
#pragma unroll
    for (int j = 0; j < kLanes; ++j) x[j] = j < n ? widen(from[j]) : 0.f;
  }
};

// A tensor that is written, or added to; null data: not wanted.
struct Output {
  void* data;
  int32_t type, accumulate;
  __device__ void put(int64_t i, float x) const {
    if (type == CB_F32) {
      float& to = static_cast<float*>(data)[i];
      to = accumulate ? to + x : x;
    } else {
      uint16_t& to = static_cast<uint16_t*>(data)[i];
      to = narrow(accumulate ? widen(to) + x : x);
    }
  }
  __device__ void store(int64_t i, int n, float (&x)[kLanes]) const {
    if (accumulate) {
      float before[kLanes];
      Input{data, type}.load(i, n, before);
#pragma unroll
      for (int j = 0; j < kLanes; ++j) x[j] += before[j];
    }
    if (type == CB_F32) {
      float* const to = static_cast<float*>(data) + i;
      if (n == kLanes && aligned(to)) {
        Quad low, high;
#pragma unroll
        for (int j = 0; j < 4; ++j) low.word[j] = bits_of(x[j]), high.word[j] = bits_of(x[4 + j]);
        reinterpret_cast<Quad*>(to)[0] = low;
        reinterpret_cast<Quad*>(to)[1] = high;
        return;
      }
#pragma unroll
      for (int j = 0; j < kLanes; ++j)
        if (j < n) to[j] = x[j];
      return;
    }
    uint16_t* const to = static_cast<uint16_t*>(data) + i;
    if (n == kLanes && aligned(to)) {
      Quad all;
#pragma unroll
      for (int j = 0; j < 4; ++j) all.word[j] = narrow_pair(x[2 * j], x[2 * j + 1]);
      *reinterpret_cast<Quad*>(to) = all;
      return;
    }
#pragma unroll
    for (int j = 0; j < kLanes; ++j)
      if (j < n) to[j] = narrow(x[j]);
  }
};

}  // namespace cuda
}  // namespace cambium

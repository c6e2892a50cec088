// The functions of one number that kernels share. Exponentials and quotients are the fast ones of the hardware, within
// a few ulp where they are used: f32 results keep five digits and more.
#pragma once
#include <cmath>

#include "cuda/launch.h"
#include "ops/abi.h"

namespace cambium {
namespace cuda {

constexpr float kLog2E = 1.44269504088896341f;

#if defined(__CUDA_ARCH__)
__device__ inline float fast_exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
__device__ inline float fast_quotient(float a, float b) { return __fdividef(a, b); }
#else
__host__ __device__ inline float fast_exp2(float x) { return exp2f(x); }
__host__ __device__ inline float fast_quotient(float a, float b) { return a / b; }
#endif

__device__ inline float sigmoid(float x) { return fast_quotient(1.f, 1.f + fast_exp2(-kLog2E * x)); }
__device__ inline float normal_cdf(float x) {
  return x < 0 ? 0.5f * erfcf(-0.70710678118654752f * x) : 0.5f + 0.5f * erff(0.70710678118654752f * x);
}

__device__ inline float activate(int32_t act, float x) {
  if (act == CB_ACT_QUICK_GELU) return x * sigmoid(1.702f * x);
  if (act == CB_ACT_GELU) return x * normal_cdf(x);
  return x;
}
__device__ inline float derivative(int32_t act, float x) {
  if (act == CB_ACT_QUICK_GELU) {
    const float s = sigmoid(1.702f * x);
    return fmaf(1.702f * x * s, 1.f - s, s);
  }
  if (act == CB_ACT_GELU) return fmaf(x * 0.39894228040143268f, fast_exp2(-0.5f * kLog2E * x * x), normal_cdf(x));
  return 1.f;
}

}  // namespace cuda
}  // namespace cambium

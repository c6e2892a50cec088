// IEEE half precision as it is read: a type of what is stored, never of what is computed in.
#pragma once
#include "cuda/element.h"

namespace cambium {
namespace cuda {

// By integer arithmetic.
__device__ inline float widen_f16(uint32_t h) {
  const uint32_t magnitude = (h & 0x7fff) << 13;
  float x = float_of(magnitude) * 0x1p112f;  // rebias the exponent; exact for subnormals too
  if ((h & 0x7c00) == 0x7c00) x = float_of(magnitude | 0x7f800000);
  return float_of(bits_of(x) | (h & 0x8000) << 16);
}

// v = the n <= 8 elements from i on of a tensor of any of the three types; zeros behind them.
__device__ inline void load_any(const void* x, int32_t type, int64_t i, int n, float (&v)[kLanes]) {
  if (type != CB_F16) return Input{x, type}.load(i, n, v);
#pragma unroll
  for (int j = 0; j < kLanes; ++j) v[j] = j < n ? widen_f16(static_cast<const uint16_t*>(x)[i + j]) : 0.f;
}

}  // namespace cuda
}  // namespace cambium

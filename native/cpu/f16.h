// IEEE half precision: a type of what is stored, never of what is computed in.
#pragma once
#include "cpu/elementwise.h"
#include "ops/abi.h"

namespace cambium {
namespace CAMBIUM_LEVEL {

// By integer arithmetic, so that no level needs an instruction of its own.
CAMBIUM_INLINE vf widen_f16(vi h) {
  const vi magnitude = (h & 0x7fff) << 13;
  vf x = as_float(magnitude) * 0x1p112f;  // rebias the exponent; exact for subnormals too
  x = (h & 0x7c00) == 0x7c00 ? as_float(magnitude | 0x7f800000) : x;
  return as_float(as_int(x) | ((h & 0x8000) << 16));
}

CAMBIUM_INLINE vi narrow_f16(vf x) {
  const vi bits = as_int(x) & 0x7fffffff, sign = (vi)(((vu)as_int(x) >> 16) & 0x8000);
  const vi normal = (bits - (112 << 23) + 0xfff + ((bits >> 13) & 1)) >> 13;
  const vi tiny = as_int(as_float(bits) + 0.5f) - 0x3f000000;  // 0.5 has the unit of f16's subnormals, 2^-24
  vi h = bits < 0x38800000 ? tiny : normal;                    // below 2^-14
  h = bits >= 0x477ff000 ? set_int(0x7c00) : h;                // 65520 and above round to infinity
  h = bits > 0x7f800000 ? set_int(0x7e00) : h;
  return h | sign;
}

// n lanes from element i of a tensor of any of the three types.
CAMBIUM_INLINE vf load_cast(int32_t type, const void* x, int64_t i, int n) {
  if (type != CB_F16) return Input(x, type).at(i, n);
  vi h{};
  for (int lane = 0; lane < n; ++lane) h[lane] = static_cast<const uint16_t*>(x)[i + lane];
  return widen_f16(h);
}

}  // namespace CAMBIUM_LEVEL
}  // namespace cambium

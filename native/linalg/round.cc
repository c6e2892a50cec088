#include "linalg/round.h"

#include <cmath>
#include <cstring>

#include "linalg/vectors.h"

namespace cambium {
namespace {

inline float as_float(uint32_t bits) {
  float out;
  std::memcpy(&out, &bits, 4);
  return out;
}
inline uint32_t as_bits(float x) {
  uint32_t out;
  std::memcpy(&out, &x, 4);
  return out;
}

// f32 toward zero, and odd where something was cut off: what is rounded again with two bits to spare is rounded as from x.
inline uint32_t rounded_to_odd(double x) {
  const float f = static_cast<float>(x);
  const double back = static_cast<double>(f);
  const uint32_t inexact = back != x && x == x ? 1 : 0, above = std::fabs(back) > std::fabs(x) ? 1 : 0;
  return (as_bits(f) - above) | inexact;
}

inline uint32_t bf16_of(uint32_t b) {
  const uint32_t rounded = (b + 0x7fff + (b >> 16 & 1)) >> 16;
  return (b & 0x7fffffff) > 0x7f800000 ? b >> 16 | 0x40 : rounded;
}

inline uint32_t f16_of(uint32_t b) {
  const uint32_t sign = b >> 16 & 0x8000, magnitude = b & 0x7fffffff;
  const uint32_t normal = (magnitude - (112u << 23) + 0xfff + (magnitude >> 13 & 1)) >> 13;
  // Adding 0.5 leaves a subnormal's units in the last bits of the sum, rounded to even.
  const uint32_t small = as_bits(as_float(magnitude < (113u << 23) ? magnitude : 0) + 0.5f) - (126u << 23);
  const uint32_t finite = magnitude < (113u << 23) ? small : normal > 0x7c00 ? 0x7c00 : normal;
  const uint32_t whole = magnitude > 0x7f800000 ? 0x7e00 : magnitude >= 0x47800000 ? 0x7c00 : finite;
  return sign | whole;
}

CAMBIUM_CLONES void widen_f32(const float* from, double* to, int64_t n) {
  for (int64_t i = 0; i < n; ++i) to[i] = static_cast<double>(from[i]);
}
CAMBIUM_CLONES void widen_bf16(const uint16_t* from, double* to, int64_t n) {
  for (int64_t i = 0; i < n; ++i) to[i] = static_cast<double>(as_float(static_cast<uint32_t>(from[i]) << 16));
}
CAMBIUM_CLONES void widen_f16(const uint16_t* from, double* to, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t h = from[i], magnitude = (h & 0x7fff) << 13;
    const float scaled = as_float(magnitude) * 0x1p112f;
    const uint32_t whole = (h & 0x7c00) == 0x7c00 ? magnitude | 0x7f800000 : as_bits(scaled);
    to[i] = static_cast<double>(as_float(whole | (h & 0x8000) << 16));
  }
}

CAMBIUM_CLONES int64_t narrow_f32(const double* from, float* to, int64_t n) {
  int64_t wrong = 0;
  for (int64_t i = 0; i < n; ++i) {
    to[i] = static_cast<float>(from[i]);
    wrong += (as_bits(to[i]) & 0x7f800000) == 0x7f800000 ? 1 : 0;
  }
  return wrong;
}
// The careful way for one type; counts results that are NaN or infinite.
template <int kDigits>
__attribute__((always_inline)) inline int64_t narrow_plain(const double* from, uint16_t* to, int64_t n) {
  constexpr uint32_t kInfinity = kDigits == 7 ? 0x7f80 : 0x7c00;
  int64_t wrong = 0;
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t b = rounded_to_odd(from[i]), half = kDigits == 7 ? bf16_of(b) : f16_of(b);
    to[i] = static_cast<uint16_t>(half);
    wrong += (half & kInfinity) == kInfinity ? 1 : 0;
  }
  return wrong;
}

#if defined(__GNUC__) && !defined(__clang__)
typedef double D8 __attribute__((vector_size(64), aligned(8), may_alias));
typedef int64_t L8 __attribute__((vector_size(64)));
typedef int32_t I8 __attribute__((vector_size(32)));
typedef uint16_t H8 __attribute__((vector_size(16), aligned(2), may_alias));

// Normal numbers, which are nearly all, are rounded in the bits of the double; a group with any other goes the careful way.
template <int kDigits, int kBias>
__attribute__((always_inline)) inline int64_t narrow_half(const double* from, uint16_t* to, int64_t n) {
  constexpr int kShift = 52 - kDigits;
  constexpr int64_t kGroup = 64, kInfinity = kDigits == 7 ? 0x7f80 : 0x7c00, kLeast = int64_t{1023 - kBias + 1} << 52;
  int64_t wrong = 0, i = 0;
  for (; i + kGroup <= n; i += kGroup) {
    L8 special = {};
    for (int64_t j = i; j < i + kGroup; j += 8) {
      const L8 bits = reinterpret_cast<L8>(*reinterpret_cast<const D8*>(from + j)), magnitude = bits & INT64_MAX;
      const L8 rounded = ((magnitude + ((int64_t{1} << (kShift - 1)) - 1) + (magnitude >> kShift & 1)) >> kShift) - (int64_t{1023 - kBias} << kDigits);
      const L8 nonzero = -magnitude >> 63;  // a sign spread over the lane: comparisons of such vectors are not compiled well
      special |= (nonzero & ((magnitude - kLeast) >> 63)) | ((kInfinity - 1 - rounded) >> 63);
      *reinterpret_cast<H8*>(to + j) = __builtin_convertvector(__builtin_convertvector((rounded & nonzero) | (bits >> 48 & 0x8000), I8), H8);  // by way of 32 bits: the compiler knows those moves
    }
    if (special[0] | special[1] | special[2] | special[3] | special[4] | special[5] | special[6] | special[7]) wrong += narrow_plain<kDigits>(from + i, to + i, kGroup);
  }
  return wrong + narrow_plain<kDigits>(from + i, to + i, n - i);
}
#else
template <int kDigits, int>
__attribute__((always_inline)) inline int64_t narrow_half(const double* from, uint16_t* to, int64_t n) {
  return narrow_plain<kDigits>(from, to, n);
}
#endif

CAMBIUM_CLONES int64_t narrow_bf16(const double* from, uint16_t* to, int64_t n) { return narrow_half<7, 127>(from, to, n); }
CAMBIUM_CLONES int64_t narrow_f16(const double* from, uint16_t* to, int64_t n) { return narrow_half<10, 15>(from, to, n); }
int64_t narrow_f64(const double* from, double* to, int64_t n) {
  int64_t wrong = 0;
  for (int64_t i = 0; i < n; ++i) {
    to[i] = from[i];
    wrong += std::isfinite(from[i]) ? 0 : 1;
  }
  return wrong;
}

}  // namespace

bool is_foldable(ElementType type) {
  return type == ElementType::kF64 || type == ElementType::kF32 || type == ElementType::kBF16 || type == ElementType::kF16;
}

void to_doubles(const void* from, ElementType type, double* to, int64_t count) {
  if (type == ElementType::kF32) return widen_f32(static_cast<const float*>(from), to, count);
  if (type == ElementType::kBF16) return widen_bf16(static_cast<const uint16_t*>(from), to, count);
  if (type == ElementType::kF16) return widen_f16(static_cast<const uint16_t*>(from), to, count);
  std::memcpy(to, from, static_cast<size_t>(count) * 8);
}

int64_t from_doubles(const double* from, ElementType type, void* to, int64_t count) {
  if (type == ElementType::kF32) return narrow_f32(from, static_cast<float*>(to), count);
  if (type == ElementType::kBF16) return narrow_bf16(from, static_cast<uint16_t*>(to), count);
  if (type == ElementType::kF16) return narrow_f16(from, static_cast<uint16_t*>(to), count);
  return narrow_f64(from, static_cast<double*>(to), count);
}

double unit_in_last_place(double x, ElementType type) {
  const int digits = type == ElementType::kF64 ? 52 : type == ElementType::kF32 ? 23 : type == ElementType::kBF16 ? 7 : 10;
  const int least = type == ElementType::kF64 ? -1022 : type == ElementType::kF16 ? -14 : -126;
  const int exponent = x == 0 || !std::isfinite(x) ? least : std::ilogb(x);
  return std::ldexp(1.0, (exponent < least ? least : exponent) - digits);
}

}  // namespace cambium

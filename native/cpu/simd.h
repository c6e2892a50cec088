// A small vector layer for the CPU kernels, on the vector extensions of GCC and Clang.
//
// A unit is compiled once per level with CAMBIUM_LEVEL (a namespace name) and CAMBIUM_WIDTH (floats per vector: 16
// avx512, 8 avx2, 4 portable) set by the build. Everything here is inline inside cambium::CAMBIUM_LEVEL, so that no wide
// instruction can be merged into code that runs on a smaller machine. No STL for the same reason.
//
//   vf, vi                 W floats, W 32-bit integers (+ - * / comparisons are operators; a ? b : c selects by lane)
//   load, store            unaligned; float* or bf16 (uint16_t*); to bf16 by rounding to nearest even, NaN stays NaN
//   load_n, store_n        the first n lanes (0 <= n <= W); load_n fills the rest with zeros and never reads past n
//   load_as<E>, store_as<E>, load_any, store_any       by element type and element index
//   set, fma, max, min, sum, max_lane, sqrt            sum and max_lane reduce in a fixed order
//   exp, exp2, sigmoid, quick_gelu, gelu and derivatives     errors of a few ulp of f32
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "element.h"
#if CAMBIUM_WIDTH >= 8
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"  // GCC 12 warns about its own _mm512_undefined_ps
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>
#pragma GCC diagnostic pop
#endif

#define CAMBIUM_INLINE inline __attribute__((always_inline))

namespace cambium {
namespace CAMBIUM_LEVEL {

constexpr int W = CAMBIUM_WIDTH;
typedef float vf __attribute__((vector_size(4 * CAMBIUM_WIDTH)));
typedef int32_t vi __attribute__((vector_size(4 * CAMBIUM_WIDTH)));
typedef uint32_t vu __attribute__((vector_size(4 * CAMBIUM_WIDTH)));
typedef uint16_t vh __attribute__((vector_size(2 * CAMBIUM_WIDTH)));  // W bf16 values

CAMBIUM_INLINE vf set(float x) { return x - vf{}; }
CAMBIUM_INLINE vi set_int(int32_t x) { return x - vi{}; }
CAMBIUM_INLINE vi as_int(vf x) { return (vi)x; }
CAMBIUM_INLINE vf as_float(vi x) { return (vf)x; }

// ---- f32 and bf16 values

CAMBIUM_INLINE float bf16_to_f32(uint16_t h) {
  uint32_t bits = uint32_t(h) << 16;
  float x;
  __builtin_memcpy(&x, &bits, 4);
  return x;
}

CAMBIUM_INLINE uint16_t f32_to_bf16(float x) {
  uint32_t bits;
  __builtin_memcpy(&bits, &x, 4);
  if (x != x) return uint16_t((bits >> 16) | 0x40);
  return uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

CAMBIUM_INLINE vf widen(vh h) {
#if CAMBIUM_WIDTH == 16
  return (vf)_mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i)h), 16);
#elif CAMBIUM_WIDTH == 8
  return (vf)_mm256_slli_epi32(_mm256_cvtepu16_epi32((__m128i)h), 16);
#else
  return (vf)(__builtin_convertvector(h, vu) << 16);
#endif
}

CAMBIUM_INLINE vh narrow_exact(vf x) {
  vu bits = (vu)x;
  vu rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  vu quiet_nan = (bits >> 16) | 0x40;
  vu r = (x == x) ? rounded : quiet_nan;
#if CAMBIUM_WIDTH == 16
  return (vh)_mm512_cvtepi32_epi16((__m512i)r);
#elif CAMBIUM_WIDTH == 8
  const __m128i low = _mm256_castsi256_si128((__m256i)r), high = _mm256_extracti128_si256((__m256i)r, 1);
  return (vh)_mm_packus_epi32(low, high);
#else
  return __builtin_convertvector(r, vh);
#endif
}

// What kernels store: where the machine has an instruction for it, numbers below 2^-126 become zeros.
CAMBIUM_INLINE vh narrow(vf x) {
#if defined(__AVX512BF16__)
  return (vh)_mm512_cvtneps_pbh((__m512)x);
#else
  return narrow_exact(x);
#endif
}

// ---- memory

CAMBIUM_INLINE vf load(const float* p) {
  vf x;
  __builtin_memcpy(&x, p, sizeof x);
  return x;
}
CAMBIUM_INLINE vf load(const uint16_t* p) {
  vh h;
  __builtin_memcpy(&h, p, sizeof h);
  return widen(h);
}
CAMBIUM_INLINE vi load_int(const int32_t* p) {
  vi x;
  __builtin_memcpy(&x, p, sizeof x);
  return x;
}
CAMBIUM_INLINE void store(float* p, vf x) { __builtin_memcpy(p, &x, sizeof x); }
CAMBIUM_INLINE void store(uint16_t* p, vf x) {
  vh h = narrow(x);
  __builtin_memcpy(p, &h, sizeof h);
}
CAMBIUM_INLINE void store_int(int32_t* p, vi x) { __builtin_memcpy(p, &x, sizeof x); }

#if CAMBIUM_WIDTH == 16
CAMBIUM_INLINE __mmask16 lanes_mask(int n) { return __mmask16((1u << n) - 1); }
CAMBIUM_INLINE vf load_n(const float* p, int n) { return (vf)_mm512_maskz_loadu_ps(lanes_mask(n), p); }
CAMBIUM_INLINE vf load_n(const uint16_t* p, int n) { return widen((vh)_mm256_maskz_loadu_epi16(lanes_mask(n), p)); }
CAMBIUM_INLINE void store_n(float* p, vf x, int n) { _mm512_mask_storeu_ps(p, lanes_mask(n), (__m512)x); }
CAMBIUM_INLINE void store_n(uint16_t* p, vf x, int n) {
  _mm256_mask_storeu_epi16(p, lanes_mask(n), (__m256i)narrow(x));
}
#else
#if CAMBIUM_WIDTH == 8
CAMBIUM_INLINE __m256i lanes_mask(int n) {
  const __m256i index = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), index);
}
CAMBIUM_INLINE vf load_n(const float* p, int n) { return (vf)_mm256_maskload_ps(p, lanes_mask(n)); }
CAMBIUM_INLINE void store_n(float* p, vf x, int n) {  // not vmaskmovps: as a store it is microcoded on AMD
  if (n == W) return store(p, x);
  __m128 rest = _mm256_castps256_ps128((__m256)x);
  if (n & 4) {
    _mm_storeu_ps(p, rest);
    rest = _mm256_extractf128_ps((__m256)x, 1);
    p += 4;
  }
  if (n & 2) {
    _mm_storel_pi(reinterpret_cast<__m64*>(p), rest);
    rest = _mm_movehl_ps(rest, rest);
    p += 2;
  }
  if (n & 1) _mm_store_ss(p, rest);
}
#else
CAMBIUM_INLINE vf load_n(const float* p, int n) {
  float t[CAMBIUM_WIDTH] = {};
  for (int i = 0; i < n; ++i) t[i] = p[i];
  return load(t);
}
CAMBIUM_INLINE void store_n(float* p, vf x, int n) {
  for (int i = 0; i < n; ++i) p[i] = x[i];
}
#endif
CAMBIUM_INLINE vf load_n(const uint16_t* p, int n) {
  uint16_t t[CAMBIUM_WIDTH] = {};
  for (int i = 0; i < n; ++i) t[i] = p[i];
  return load(t);
}
CAMBIUM_INLINE void store_n(uint16_t* p, vf x, int n) {
  uint16_t t[CAMBIUM_WIDTH];
  store(t, x);
  for (int i = 0; i < n; ++i) p[i] = t[i];
}
#endif

// By element type: element `index` of an array at `base`; the whole vector, or its first n lanes.
template <Element E>
CAMBIUM_INLINE vf load_as(const void* base, int64_t index) {
  return E == Element::f32 ? load(static_cast<const float*>(base) + index)
                           : load(static_cast<const uint16_t*>(base) + index);
}
template <Element E>
CAMBIUM_INLINE vf load_as_n(const void* base, int64_t index, int n) {
  return E == Element::f32 ? load_n(static_cast<const float*>(base) + index, n)
                           : load_n(static_cast<const uint16_t*>(base) + index, n);
}
template <Element E>
CAMBIUM_INLINE void store_as(void* base, int64_t index, vf x) {
  if (E == Element::f32) store(static_cast<float*>(base) + index, x);
  else store(static_cast<uint16_t*>(base) + index, x);
}
template <Element E>
CAMBIUM_INLINE void store_as_n(void* base, int64_t index, vf x, int n) {
  if (E == Element::f32) store_n(static_cast<float*>(base) + index, x, n);
  else store_n(static_cast<uint16_t*>(base) + index, x, n);
}
CAMBIUM_INLINE vf load_any(Element e, const void* base, int64_t index) {
  return e == Element::f32 ? load_as<Element::f32>(base, index) : load_as<Element::bf16>(base, index);
}
CAMBIUM_INLINE vf load_any_n(Element e, const void* base, int64_t index, int n) {
  return e == Element::f32 ? load_as_n<Element::f32>(base, index, n) : load_as_n<Element::bf16>(base, index, n);
}
CAMBIUM_INLINE void store_any(Element e, void* base, int64_t index, vf x) {
  if (e == Element::f32) store_as<Element::f32>(base, index, x);
  else store_as<Element::bf16>(base, index, x);
}
CAMBIUM_INLINE void store_any_n(Element e, void* base, int64_t index, vf x, int n) {
  if (e == Element::f32) store_as_n<Element::f32>(base, index, x, n);
  else store_as_n<Element::bf16>(base, index, x, n);
}

// ---- arithmetic

CAMBIUM_INLINE vf fma(vf a, vf b, vf c) {  // a·b + c; one rounding where the machine has it
#if CAMBIUM_WIDTH == 16
  return (vf)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif CAMBIUM_WIDTH == 8
  return (vf)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
  return a * b + c;
#endif
}
#if CAMBIUM_WIDTH == 16  // b when either is NaN, here and below
CAMBIUM_INLINE vf max(vf a, vf b) { return (vf)_mm512_max_ps((__m512)a, (__m512)b); }
CAMBIUM_INLINE vf min(vf a, vf b) { return (vf)_mm512_min_ps((__m512)a, (__m512)b); }
#else
CAMBIUM_INLINE vf max(vf a, vf b) { return a > b ? a : b; }
CAMBIUM_INLINE vf min(vf a, vf b) { return a < b ? a : b; }
#endif
CAMBIUM_INLINE vf abs(vf x) { return as_float(as_int(x) & 0x7fffffff); }
CAMBIUM_INLINE vf sqrt(vf x) {
#if CAMBIUM_WIDTH == 16
  return (vf)_mm512_sqrt_ps((__m512)x);
#elif CAMBIUM_WIDTH == 8
  return (vf)_mm256_sqrt_ps((__m256)x);
#else
  for (int i = 0; i < W; ++i) x[i] = __builtin_sqrtf(x[i]);
  return x;
#endif
}

// Sum and maximum of the lanes: halves are folded onto each other, so the order depends on W alone.
CAMBIUM_INLINE float sum(vf x) {
#if CAMBIUM_WIDTH >= 8
#if CAMBIUM_WIDTH == 16
  const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256((__m512)x), _mm512_extractf32x8_ps((__m512)x, 1));
#else
  const __m256 eight = (__m256)x;
#endif
  __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  four = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(four, _mm_movehdup_ps(four)));
#else
  float t[CAMBIUM_WIDTH];
  store(t, x);
  for (int half = W / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) t[i] += t[i + half];
  return t[0];
#endif
}
CAMBIUM_INLINE float max_lane(vf x) {
#if CAMBIUM_WIDTH >= 8
#if CAMBIUM_WIDTH == 16
  const __m256 eight = _mm256_max_ps(_mm512_castps512_ps256((__m512)x), _mm512_extractf32x8_ps((__m512)x, 1));
#else
  const __m256 eight = (__m256)x;
#endif
  __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  four = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(four, _mm_movehdup_ps(four)));
#else
  float t[CAMBIUM_WIDTH];
  store(t, x);
  for (int half = W / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) t[i] = t[i] > t[i + half] ? t[i] : t[i + half];
  return t[0];
#endif
}

// ---- functions

// e^x within 1.5 ulp: x = n·ln2 + r, |r| <= ln2/2, polynomial of degree 6 in r (Cephes), times 2^n in two steps so that
// results below the normal range and overflow come out right. -inf gives 0, +inf gives inf, NaN stays.
CAMBIUM_INLINE vf exp(vf x) {
  const vf low = set(-105.f), high = set(89.f), magic = set(12582912.f);  // 1.5 · 2^23: adding it rounds to an integer
  x = max(low, x);
  x = min(high, x);
  const vf shifted = fma(x, set(1.44269504088896341f), magic);
  const vf n = shifted - magic;
  vf r = fma(n, set(-0.693359375f), x);
  r = fma(n, set(2.12194440e-4f), r);
  vf p = set(1.9875691500e-4f);
  p = fma(p, r, set(1.3981999507e-3f));
  p = fma(p, r, set(8.3334519073e-3f));
  p = fma(p, r, set(4.1665795894e-2f));
  p = fma(p, r, set(1.6666665459e-1f));
  p = fma(p, r, set(5.0000001201e-1f));
  p = fma(p, r * r, r) + 1.f;
#if CAMBIUM_WIDTH == 16
  return (vf)_mm512_scalef_ps((__m512)p, (__m512)n);
#else
  const vi exponent = as_int(shifted) - as_int(magic), first = exponent >> 1, second = exponent - first;
  return p * as_float((first + 127) << 23) * as_float((second + 127) << 23);
#endif
}

// 2^x within 3 ulp, for exponents that come as powers of two (softmax: log2(e) rides in the scale of the scores). With
// f = x − floor(x), a polynomial of degree 5 fitted to 2^f on [0, 1] for the least relative error, 8e-8.
CAMBIUM_INLINE vf exp2(vf x) {
#if CAMBIUM_WIDTH == 16
  const vf f = (vf)_mm512_reduce_ps((__m512)x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);  // ±inf gives 0
#else
  const vf low = set(-150.f), high = set(129.f), magic = set(12582912.f);  // 1.5 · 2^23: adding it rounds to an integer
  x = max(low, x);
  x = min(high, x);
  const vf shifted = (x - 0.5f) + magic;  // floor(x), or one less where x is an integer: 2^1 is as good as 2 · 2^0
  const vf f = x - (shifted - magic);
#endif
  vf p = fma(set(1.8775766948e-3f), f, set(8.9893406257e-3f));
  p = fma(p, f, set(5.5826317519e-2f));
  p = fma(p, f, set(2.4015361071e-1f));
  p = fma(p, f, set(6.9315308332e-1f));
  p = fma(p, f, set(9.9999994040e-1f));
#if CAMBIUM_WIDTH == 16
  return (vf)_mm512_scalef_ps((__m512)p, (__m512)x);  // p · 2^floor(x)
#else
  const vi exponent = as_int(shifted) - as_int(magic), first = exponent >> 1, second = exponent - first;
  return p * as_float((first + 127) << 23) * as_float((second + 127) << 23);
#endif
}

CAMBIUM_INLINE vf sigmoid(vf x) { return 1.f / (1.f + exp(-x)); }

// 1 / (1 + 2^x) within 2 ulp; 0 for NaN, and where it would be below 2^-126.
CAMBIUM_INLINE vf logistic2(vf x) {
#if CAMBIUM_WIDTH == 16  // a step of Newton's method on an estimate of 14 bits takes a third of a division's time
  const vf d = 1.f + exp2(x), r = (vf)_mm512_rcp14_ps((__m512)d);
  return x <= 126.f ? fma(fma(-d, r, set(1.f)), r, r) : vf{};
#else
  return 1.f / (1.f + exp2(x));
#endif
}

// QuickGELU (OpenAI CLIP): x·σ(1.702·x). log2(e) rides in the factor: exp2 takes half the instructions of exp.
constexpr float kQuickGeluLog2E = 1.702f * 1.44269504088896341f;
CAMBIUM_INLINE vf quick_gelu(vf x) { return x * logistic2(-kQuickGeluLog2E * x); }
CAMBIUM_INLINE vf quick_gelu_derivative(vf x) {
  const vf s = logistic2(-kQuickGeluLog2E * x);
  return fma(1.702f * x * s, 1.f - s, s);
}

// erf within 1.2 ulp and, for |x| above 0.93, its complement without cancellation (minimax fits after N. Juffa).
struct Erf {
  vf value, tail;  // erf(x); 1 - erf(|x|), meaningful where `far`
  vi far;
};
CAMBIUM_INLINE Erf erf_parts(vf x) {
  const vf t = abs(x), s = x * x;
  vf r = fma(set(-1.72853470e-5f), t, set(3.83197126e-4f));
  const vf u = fma(set(-3.88396438e-3f), t, set(2.42546219e-2f));
  r = fma(r, s, u);
  r = fma(r, t, set(-1.06777877e-1f));
  r = fma(r, t, set(-6.34846687e-1f));
  r = fma(r, t, set(-1.28717512e-1f));
  const vf tail = exp(fma(r, t, -t));
  const vf magnitude = 1.f - tail;
  const vf outer = as_float(as_int(magnitude) | (as_int(x) & int32_t(0x80000000)));
  vf p = set(-5.96761703e-4f);
  p = fma(p, s, set(4.99119423e-3f));
  p = fma(p, s, set(-2.67681349e-2f));
  p = fma(p, s, set(1.12819925e-1f));
  p = fma(p, s, set(-3.76125336e-1f));
  p = fma(p, s, set(1.28379166e-1f));
  const vi far = t > 0.927734375f;
  return {far ? outer : fma(p, x, x), tail, far};
}
CAMBIUM_INLINE vf erf(vf x) { return erf_parts(x).value; }

// The normal distribution function, Φ(x) = (1 + erf(x/√2)) / 2.
CAMBIUM_INLINE vf normal_cdf(vf x) {
  const Erf e = erf_parts(0.70710678118654752f * x);
  return (e.far & (x < 0.f)) ? 0.5f * e.tail : fma(set(0.5f), e.value, set(0.5f));
}

// GELU (Hendrycks & Gimpel, exact form): x·Φ(x); derivative Φ(x) + x·φ(x).
CAMBIUM_INLINE vf gelu(vf x) { return x * normal_cdf(x); }
CAMBIUM_INLINE vf gelu_derivative(vf x) {
  const vf density = 0.39894228040143268f * exp(-0.5f * x * x);
  return fma(x, density, normal_cdf(x));
}

}  // namespace CAMBIUM_LEVEL
}  // namespace cambium

// Panels of bf16 pairs for the dot-product kernels. A lane is a row of A or a column of B; the unit is a dword that
// holds k and k + 1 of one lane (k in the low half). Blocks of 16 lanes × 32 k are brought into 16 vectors, one per
// pair, 16 lanes each ("pair vectors"), whichever way the source runs; the kernels' files say where those vectors go.
// On vector extensions alone, so that the AMX layout can be tested on any machine.
#pragma once
#include <cstdint>
#include <cstring>

#include "../simd.h"
#include "gemm.h"

namespace cambium {
namespace CAMBIUM_LEVEL {

constexpr int kPairs = 16, kPairLanes = 16, kBlockK = 32;
typedef uint32_t Pairs __attribute__((vector_size(64)));  // 16 dwords
typedef uint16_t Halves __attribute__((vector_size(32)));
typedef float Floats __attribute__((vector_size(64)));

// r[i], lane j becomes r[j], lane i: 4 × 4 dwords inside quarters first, then quarters.
CAMBIUM_INLINE void transpose_pairs(Pairs (&r)[16]) {
  Pairs t[16];
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2) {
    t[i] = __builtin_shufflevector(r[i], r[i + 1], 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29);
    t[i + 1] = __builtin_shufflevector(r[i], r[i + 1], 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {
#pragma GCC unroll 2
    for (int j = 0; j < 2; ++j) {
      const Pairs a = t[i + j], b = t[i + j + 2];
      r[i + 2 * j] = __builtin_shufflevector(a, b, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29);
      r[i + 2 * j + 1] = __builtin_shufflevector(a, b, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31);
    }
  }
  // r[4 g + c]: quarter q holds lanes 4 g … 4 g + 3 of column 4 q + c.
#pragma GCC unroll 4
  for (int c = 0; c < 4; ++c) {
    const Pairs a = __builtin_shufflevector(r[c], r[4 + c], 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27);
    const Pairs b = __builtin_shufflevector(r[c], r[4 + c], 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
    const Pairs d = __builtin_shufflevector(r[8 + c], r[12 + c], 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27);
    const Pairs e = __builtin_shufflevector(r[8 + c], r[12 + c], 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
    t[c] = __builtin_shufflevector(a, d, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27);
    t[8 + c] = __builtin_shufflevector(a, d, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
    t[4 + c] = __builtin_shufflevector(b, e, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27);
    t[12 + c] = __builtin_shufflevector(b, e, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
  }
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) r[i] = t[i];
}

// bf16 bits of 16 floats, rounded to nearest even, NaN kept; in the low half of each dword.
CAMBIUM_INLINE Pairs round_to_bf16(Floats x) {
  const Pairs bits = (Pairs)x;
  const Pairs rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16, quiet_nan = (bits >> 16) | 0x40;
  return x == x ? rounded : quiet_nan;
}

template <class T>
CAMBIUM_INLINE T load_block(const void* p) {
  T x;
  __builtin_memcpy(&x, p, sizeof x);
  return x;
}

// Where a block comes from: element (k, lane) at data[k * k_stride + lane * lane_stride]; one stride is 1.
struct PairSource {
  const void* data;
  Element type;
  int64_t lane_stride, k_stride;
};

CAMBIUM_INLINE const void* at(const PairSource& s, int64_t lane, int64_t k) {
  return static_cast<const char*>(s.data) + (lane * s.lane_stride + k * s.k_stride) * int64_t(element_size(s.type));
}

// 32 consecutive k of one lane, as 16 pairs.
CAMBIUM_INLINE Pairs pairs_along_k(const void* p, Element type) {
  if (type == Element::bf16) return load_block<Pairs>(p);
  const Floats low = load_block<Floats>(p), high = load_block<Floats>(static_cast<const float*>(p) + 16);
#if defined(__AVX512BF16__)
  return (Pairs)_mm512_cvtne2ps_pbh((__m512)high, (__m512)low);
#else
  const Halves first = __builtin_convertvector(round_to_bf16(low), Halves);
  const Halves second = __builtin_convertvector(round_to_bf16(high), Halves);
  Pairs r;
  __builtin_memcpy(&r, &first, 32);
  __builtin_memcpy(reinterpret_cast<char*>(&r) + 32, &second, 32);
  return r;
#endif
}

// The first n of 16 lanes, the rest zeros.
template <class T>
CAMBIUM_INLINE T load_lanes(const void* p, int n) {
  if (n >= kPairLanes) return load_block<T>(p);
#if defined(__AVX512F__)
  const __mmask16 wanted = __mmask16((1u << n) - 1);
  if (sizeof(T) == 64) return (T)_mm512_maskz_loadu_epi32(wanted, p);
#endif
  T x = {};
  __builtin_memcpy(&x, p, size_t(n) * sizeof(T) / kPairLanes);
  return x;
}
#if defined(__AVX512BW__) && defined(__AVX512VL__)
template <>
CAMBIUM_INLINE Halves load_lanes<Halves>(const void* p, int n) {
  return (Halves)_mm256_maskz_loadu_epi16(n >= kPairLanes ? __mmask16(0xffff) : __mmask16((1u << n) - 1), p);
}
#endif

// The pairs of n lanes whose first and second k stand at p and q.
CAMBIUM_INLINE Pairs pairs_along_lanes(const void* p, const void* q, Element type, int n) {
#if defined(__AVX512BW__)
  const Pairs order = {0x100000, 0x110001, 0x120002, 0x130003, 0x140004, 0x150005, 0x160006, 0x170007,
                       0x180008, 0x190009, 0x1a000a, 0x1b000b, 0x1c000c, 0x1d000d, 0x1e000e, 0x1f000f};
  if (type == Element::bf16) {
    const __m512i low = _mm512_zextsi256_si512((__m256i)load_lanes<Halves>(p, n));
    const __m512i halves = _mm512_inserti64x4(low, (__m256i)load_lanes<Halves>(q, n), 1);
    return (Pairs)_mm512_permutexvar_epi16((__m512i)order, halves);
  }
#else
  if (type == Element::bf16)
    return __builtin_convertvector(load_lanes<Halves>(p, n), Pairs) |
           (__builtin_convertvector(load_lanes<Halves>(q, n), Pairs) << 16);
#endif
  const Floats first = load_lanes<Floats>(p, n), second = load_lanes<Floats>(q, n);
#if defined(__AVX512BF16__)
  const __m512i halves = (__m512i)_mm512_cvtne2ps_pbh((__m512)second, (__m512)first);  // 16 of p, then 16 of q
  return (Pairs)_mm512_permutexvar_epi16((__m512i)order, halves);
#else
  return round_to_bf16(first) | (round_to_bf16(second) << 16);
#endif
}

// The first k (< 32) of one lane as 16 pairs, zeros behind them.
CAMBIUM_INLINE Pairs pairs_along_k(const void* p, Element type, int k) {
  const size_t bytes = size_t(k) * element_size(type);
#if defined(__AVX512BW__)
  if (type == Element::bf16) return (Pairs)_mm512_maskz_loadu_epi16(__mmask32((uint64_t(1) << k) - 1), p);
#endif
  uint32_t values[2 * kPairs] = {};
  __builtin_memcpy(values, p, bytes);
  return pairs_along_k(values, type);
}

// r[p], lane l = the pair (2p, 2p + 1) of lane l; zeros from lane `lanes` and from k on.
CAMBIUM_INLINE void pair_block(const PairSource& s, int lanes, int k, Pairs (&r)[16]) {
  const bool whole = k >= kBlockK;
  if (s.k_stride == 1) {
    if (whole) {
#pragma GCC unroll 16
      for (int lane = 0; lane < 16; ++lane) r[lane] = lane < lanes ? pairs_along_k(at(s, lane, 0), s.type) : Pairs{};
    } else {
      for (int lane = 0; lane < 16; ++lane) r[lane] = lane < lanes ? pairs_along_k(at(s, lane, 0), s.type, k) : Pairs{};
    }
    transpose_pairs(r);
  } else {
    const float zeros[kPairLanes] = {};
    for (int p = 0; p < 16; ++p) {
      if (!whole && 2 * p >= k) r[p] = Pairs{};
      else if (!whole && 2 * p + 1 == k) r[p] = pairs_along_lanes(at(s, 0, 2 * p), zeros, s.type, lanes);
      else r[p] = pairs_along_lanes(at(s, 0, 2 * p), at(s, 0, 2 * p + 1), s.type, lanes);
    }
  }
}

// The same for LANES lanes (a constant, at most 16) and all 32 k of a source of type E, without a question per vector.
template <int LANES, Element E, bool ALONG_K>
CAMBIUM_INLINE void whole_pair_block(const PairSource& s, Pairs (&r)[16]) {
  constexpr int64_t size = E == Element::bf16 ? 2 : 4;
  const char* const base = static_cast<const char*>(s.data);
  if (ALONG_K) {
#pragma GCC unroll 16
    for (int lane = 0; lane < 16; ++lane)
      r[lane] = lane < LANES ? pairs_along_k(base + lane * s.lane_stride * size, E) : Pairs{};
    transpose_pairs(r);
  } else {
#pragma GCC unroll 16
    for (int p = 0; p < 16; ++p) {
      const char* const first = base + 2 * p * s.k_stride * size;
      r[p] = pairs_along_lanes(first, first + s.k_stride * size, E, LANES);
    }
  }
}

CAMBIUM_INLINE PairSource shifted(const PairSource& s, int64_t lane, int64_t k) {
  return {at(s, lane, k), s.type, s.lane_stride, s.k_stride};
}

// Asks for what is packed next while a block of `lanes` × 32 k is: where rows run along k, the same k of the next panel
// (`panel` lanes on); where they run along lanes, the next 32 k. Every block takes one or two lines from each of many
// rows, which the machine does not foresee. What lies past the end of a matrix is asked for in vain, without harm.
CAMBIUM_INLINE void prefetch_next(const PairSource& s, int lanes, int panel) {
  const bool wide = s.type == Element::f32;
  if (s.k_stride == 1) {
    for (int lane = 0; lane < lanes; ++lane) {
      const char* const p = static_cast<const char*>(at(s, lane + panel, 0));
      __builtin_prefetch(p, 0, 2);
      if (wide) __builtin_prefetch(p + 64, 0, 2);
    }
  } else {
    for (int k = 0; k < kBlockK; ++k) {
      const char* const p = static_cast<const char*>(at(s, 0, kBlockK + k));
      __builtin_prefetch(p);
      if (wide && panel > 16) __builtin_prefetch(p + 64);
    }
  }
}

inline PairSource rows_of(const MatrixView& v) { return {v.data, v.type, v.row_stride, v.column_stride}; }
inline PairSource columns_of(const MatrixView& v) { return {v.data, v.type, v.column_stride, v.row_stride}; }

}  // namespace CAMBIUM_LEVEL
}  // namespace cambium

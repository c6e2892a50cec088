// Panels of bf16 pairs for the dot-product kernels. A lane is a row of A or a column of B; the unit is a dword that holds
// k and k + 1 of one lane (k in the low half). Blocks of 16 lanes × 32 k are brought into 16 vectors, one per pair, 16
// lanes each ("pair vectors"), whichever way the source runs; the kernels' files say where those vectors go.
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

CAMBIUM_INLINE void transpose_pairs(Pairs (&r)[16]) {
#pragma GCC unroll 4
  for (int step = 1; step < 16; step *= 2) {
    Pairs t[16];
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {
      t[2 * i] = __builtin_shufflevector(r[i], r[i + 8], 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
      t[2 * i + 1] = __builtin_shufflevector(r[i], r[i + 8], 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
    }
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) r[i] = t[i];
  }
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

// 16 lanes of one k, zero-extended bf16 bits.
CAMBIUM_INLINE Pairs lanes_of(const void* p, Element type) {
  if (type == Element::bf16) return __builtin_convertvector(load_block<Halves>(p), Pairs);
  return round_to_bf16(load_block<Floats>(p));
}

// A block at the edge is first copied, element by element, into a buffer of its own, filled up with zeros.
struct EdgeBlock {
  uint16_t values[kPairLanes * kBlockK];  // [lane][k]
};
inline PairSource stage_edge(const PairSource& s, int lanes, int k, EdgeBlock* block) {
  __builtin_memset(block, 0, sizeof *block);
  for (int lane = 0; lane < lanes; ++lane)
    for (int i = 0; i < k; ++i) {
      const void* const p = at(s, lane, i);
      block->values[lane * kBlockK + i] =
          s.type == Element::bf16 ? *static_cast<const uint16_t*>(p) : f32_to_bf16(*static_cast<const float*>(p));
    }
  return {block->values, Element::bf16, kBlockK, 1};
}

// r[p], lane l = the pair (2p, 2p + 1) of lane l. All 16 × 32 elements must be there.
CAMBIUM_INLINE void whole_block(const PairSource& s, Pairs (&r)[16]) {
  if (s.k_stride == 1) {
#pragma GCC unroll 16
    for (int lane = 0; lane < 16; ++lane) r[lane] = pairs_along_k(at(s, lane, 0), s.type);
    transpose_pairs(r);
  } else {
#pragma GCC unroll 16
    for (int p = 0; p < 16; ++p)
      r[p] = lanes_of(at(s, 0, 2 * p), s.type) | (lanes_of(at(s, 0, 2 * p + 1), s.type) << 16);
  }
}

// The same for a block that may be cut short: missing lanes and k are zeros.
inline void pair_block(const PairSource& s, int lanes, int k, Pairs (&r)[16]) {
  if (lanes >= kPairLanes && k >= kBlockK) return whole_block(s, r);
  EdgeBlock edge;
  whole_block(stage_edge(s, lanes < kPairLanes ? lanes : kPairLanes, k < kBlockK ? k : kBlockK, &edge), r);
}

CAMBIUM_INLINE PairSource shifted(const PairSource& s, int64_t lane, int64_t k) {
  return {at(s, lane, k), s.type, s.lane_stride, s.k_stride};
}

inline PairSource rows_of(const MatrixView& v) { return {v.data, v.type, v.row_stride, v.column_stride}; }
inline PairSource columns_of(const MatrixView& v) { return {v.data, v.type, v.column_stride, v.row_stride}; }

}  // namespace CAMBIUM_LEVEL
}  // namespace cambium

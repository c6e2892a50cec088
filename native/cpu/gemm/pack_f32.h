// Panels of f32: element (k, lane) at panel[k * LANES + lane]. A lane is a row of A or a column of B.
// The source has its unit stride along lanes (rows are copied) or along k (blocks of W × W are transposed in
// registers).
#pragma once
#include "../simd.h"
#include "gemm.h"

namespace cambium {
namespace CAMBIUM_LEVEL {

// Lane-wise interleaving of two vectors: a0 b0 a1 b1 … from their low or their high halves.
#if CAMBIUM_WIDTH == 16
CAMBIUM_INLINE vf interleave_low(vf a, vf b) {
  return __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
}
CAMBIUM_INLINE vf interleave_high(vf a, vf b) {
  return __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
}
#elif CAMBIUM_WIDTH == 8
CAMBIUM_INLINE vf interleave_low(vf a, vf b) {
  const __m256 low = _mm256_unpacklo_ps((__m256)a, (__m256)b), high = _mm256_unpackhi_ps((__m256)a, (__m256)b);
  return (vf)_mm256_permute2f128_ps(low, high, 0x20);
}
CAMBIUM_INLINE vf interleave_high(vf a, vf b) {
  const __m256 low = _mm256_unpacklo_ps((__m256)a, (__m256)b), high = _mm256_unpackhi_ps((__m256)a, (__m256)b);
  return (vf)_mm256_permute2f128_ps(low, high, 0x31);
}
#else
CAMBIUM_INLINE vf interleave_low(vf a, vf b) { return __builtin_shufflevector(a, b, 0, 4, 1, 5); }
CAMBIUM_INLINE vf interleave_high(vf a, vf b) { return __builtin_shufflevector(a, b, 2, 6, 3, 7); }
#endif

// log2(W) rounds of perfect shuffles transpose a W × W block.
CAMBIUM_INLINE void transpose(vf (&r)[W]) {
#pragma GCC unroll 4
  for (int step = 1; step < W; step *= 2) {
    vf t[W];
#pragma GCC unroll 8
    for (int i = 0; i < W / 2; ++i) {
      t[2 * i] = interleave_low(r[i], r[i + W / 2]);
      t[2 * i + 1] = interleave_high(r[i], r[i + W / 2]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < W; ++i) r[i] = t[i];
  }
}

template <Element S, bool ROUND>
CAMBIUM_INLINE vf pack_load(const void* source, int64_t index, int n) {
  vf x = n == W ? load_as<S>(source, index) : load_as_n<S>(source, index, n);
  return ROUND && S == Element::f32 ? widen(narrow(x)) : x;
}

template <int LANES, Element S, bool ROUND>
inline void pack_rows_f32(const void* source, int64_t k_stride, int lanes, int64_t k, float* panel) {
  for (int64_t i = 0; i < k; ++i, panel += LANES)
#pragma GCC unroll 8
    for (int c = 0; c < LANES; c += W) {
      const int width = LANES - c < W ? LANES - c : W, left = lanes - c < 0 ? 0 : lanes - c;
      const int wanted = left < width ? left : width;
      store_n(panel + c, pack_load<S, ROUND>(source, i * k_stride + c, wanted), width);
    }
}

// Up to W values of k for each of up to W lanes: panel[k * LANES + lane].
template <int LANES, int WIDTH, Element S, bool ROUND>
CAMBIUM_INLINE void pack_block_f32(const void* source, int64_t lane_stride, int64_t start, int lanes, int k,
                                   float* panel) {
  vf r[W];
#pragma GCC unroll 16
  for (int i = 0; i < W; ++i) r[i] = i < lanes ? pack_load<S, ROUND>(source, start + i * lane_stride, k) : set(0.f);
  transpose(r);
#pragma GCC unroll 16
  for (int i = 0; i < W; ++i)
    if (i < k) store_n(panel + i * LANES, r[i], WIDTH);
}

template <int LANES, Element S, bool ROUND>
inline void pack_columns_f32(const void* source, int64_t lane_stride, int lanes, int64_t k, float* panel) {
  constexpr int kWhole = LANES / W * W;
  for (int64_t i = 0; i < k; i += W) {
    const int depth = k - i < W ? int(k - i) : W;
    for (int c = 0; c < kWhole; c += W)
      pack_block_f32<LANES, W, S, ROUND>(source, lane_stride, i + c * lane_stride, lanes - c, depth,
                                         panel + i * LANES + c);
    if (LANES > kWhole)
      pack_block_f32<LANES, LANES - kWhole, S, ROUND>(source, lane_stride, i + kWhole * lane_stride, lanes - kWhole,
                                                      depth, panel + i * LANES + kWhole);
  }
}

template <int LANES, Element S, bool ROUND>
inline void pack_panel_f32(const void* source, int64_t lane_stride, int64_t k_stride, int lanes, int64_t k,
                           float* panel) {
  if (lane_stride == 1) pack_rows_f32<LANES, S, ROUND>(source, k_stride, lanes, k, panel);
  else pack_columns_f32<LANES, S, ROUND>(source, lane_stride, lanes, k, panel);
}

template <int LANES, bool ROUND>
inline void pack_a_f32(const MatrixView& v, int64_t rows, int64_t k, void* panel) {
  float* const p = static_cast<float*>(panel);
  if (v.type == Element::f32)
    pack_panel_f32<LANES, Element::f32, ROUND>(v.data, v.row_stride, v.column_stride, int(rows), k, p);
  else
    pack_panel_f32<LANES, Element::bf16, ROUND>(v.data, v.row_stride, v.column_stride, int(rows), k, p);
}

template <int LANES, bool ROUND>
inline void pack_b_f32(const MatrixView& v, int64_t k, int64_t columns, void* panel) {
  MatrixView transposed = v;
  transposed.row_stride = v.column_stride;
  transposed.column_stride = v.row_stride;
  pack_a_f32<LANES, ROUND>(transposed, columns, k, panel);
}

}  // namespace CAMBIUM_LEVEL
}  // namespace cambium

// What forward and backward of attention share: the shape of the products, the panels of one head, and how their
// results leave for memory. Included by attention*.cc only.
//
// Products go through the micro-kernel of the level (gemm.h), on panels. Scores and their gradients are right operands
// of the products that follow: f32 ones as they stand, bf16 ones as pairs of neighbouring rows, written as they arise.
#pragma once
#include "cpu/attention_branch.h"
#include "cpu/gemm/pack_f32.h"
#include "cpu/kernels.h"

namespace cambium {
namespace CAMBIUM_LEVEL {

constexpr int kAttentionScratch = 0;  // slot of thread_scratch
constexpr float kLog2E = 1.44269504088896341f;

// What all heads share.
struct AttentionShape {
  const MicroKernel* kernel;
  int64_t mr, nr, width, keep;  // width: K; keep: rows of a [K, ·] result after padding to whole tiles
  int64_t d, heads, m;
  Element type;
  float scale;
  bool causal;
};

// One head of one sample: rows [row, row + n) of the packed tensors, columns from `column`; the slots of its branch.
struct Head {
  int64_t row, n, column, index, sample;
  SampleBranch branch;
  bool joint;
};

// false: no memory for the panels.
bool attention_forward_head(const AttentionShape& s, const attention_args& a, const Head& head);
bool attention_backward_head(const AttentionShape& s, const attention_grads& g, const BranchPartials& partials, const Head& head);

// Cuts one allocation into aligned pieces; with a null base it only counts.
struct Pieces {
  char* base;
  size_t used;
  template <class T>
  T* take(int64_t bytes) {
    T* piece = base == nullptr ? nullptr : reinterpret_cast<T*>(base + used);
    used += size_t(divide_up(bytes, 64) * 64);
    return piece;
  }
};

inline int64_t left_bytes(const AttentionShape& s, int64_t rows, int64_t k) {
  return divide_up(rows, s.mr) * int64_t(a_panel_bytes(*s.kernel, k));
}
inline int64_t right_bytes(const AttentionShape& s, int64_t k, int64_t columns) {
  return divide_up(columns, s.nr) * int64_t(b_panel_bytes(*s.kernel, k));
}

inline MatrixView view_at(MatrixView v, int64_t i, int64_t j) {
  const int64_t offset = i * v.row_stride + j * v.column_stride;
  return {static_cast<const char*>(v.data) + offset * int64_t(element_size(v.type)), v.type, v.row_stride,
          v.column_stride};
}
inline MatrixView transposed(MatrixView v) { return {v.data, v.type, v.column_stride, v.row_stride}; }

inline void pack_left(const AttentionShape& s, MatrixView v, int64_t rows, int64_t k, char* to) {
  for (int64_t row = 0; row < rows; row += s.mr, to += a_panel_bytes(*s.kernel, k)) {
    s.kernel->pack_a(view_at(v, row, 0), smaller(s.mr, rows - row), k, to);
  }
}
inline void pack_right(const AttentionShape& s, MatrixView v, int64_t k, int64_t columns, char* to) {
  for (int64_t column = 0; column < columns; column += s.nr, to += b_panel_bytes(*s.kernel, k)) {
    s.kernel->pack_b(view_at(v, 0, column), k, smaller(s.nr, columns - column), to);
  }
}

// out [tiles·mr][nr] = (or +=) left panels (each over `panel_k`, of which [k0, k0 + k) count) · right, for so many
// columns. k0: a multiple of k_unit. What stands behind the last row is arbitrary.
inline void multiply_tiles(const AttentionShape& s, int64_t rows, int64_t panel_k, int64_t k0, int64_t k,
                           const char* left, const void* right, float* out, int64_t columns, bool accumulate = false) {
  const size_t bytes = a_panel_bytes(*s.kernel, panel_k);
  const bool half = columns < s.nr;
  const auto run = half ? s.kernel->run_half : s.kernel->run, run_short = half ? s.kernel->run_short_half : s.kernel->run_short;
  left += k0 * s.mr * int64_t(element_size(s.kernel->type));
  for (int64_t row = 0; row < rows; row += s.mr, left += bytes, out += s.mr * s.nr) {
    (rows - row <= s.kernel->short_rows ? run_short : run)(padded_k(*s.kernel, k), left, right, out, accumulate);
  }
}

// Keys or values of a branch, [l, K] of one head.
inline MatrixView slots_of(const AttentionShape& s, const float* keys_or_values, const Head& head) {
  return {keys_or_values + head.column, Element::f32, s.d, 1};
}

// Columns of a tile that are computed when `wanted` are: all, or the first half.
inline int64_t columns_for(const AttentionShape& s, int64_t wanted) { return 2 * wanted <= s.nr ? s.nr / 2 : s.nr; }

// W whole vectors, `stride` elements apart.
CAMBIUM_INLINE void put_vectors(const Output& out, const vf (&r)[W], int64_t at, int64_t stride) {
  if (out.type == Element::f32) {
#pragma GCC unroll 16
    for (int t = 0; t < W; ++t) store(static_cast<float*>(out.data) + at + t * stride, r[t]);
  } else {
#pragma GCC unroll 16
    for (int t = 0; t < W; ++t) store(static_cast<uint16_t*>(out.data) + at + t * stride, r[t]);
  }
}

// Writes a [K][nr] result to rows of `out`: its column c becomes row c (rows are `stride` apart), times factor[c].
inline void store_columns(const AttentionShape& s, const float* result, const float* factor, int64_t columns,
                          Output out, int64_t at, int64_t stride) {
  for (int64_t first = 0; first < columns; first += W) {
    const vf scale = load(factor + first);
    const int64_t rows = smaller(W, columns - first);
    for (int64_t i = 0; i < s.width; i += W) {
      vf r[W];
#pragma GCC unroll 16
      for (int t = 0; t < W; ++t) r[t] = scale * load(result + (i + t) * s.nr + first);
      transpose(r);
      const int n = int(smaller(W, s.width - i));
      if (rows == W && n == W && !out.accumulate) {
        put_vectors(out, r, at + first * stride + i, stride);
        continue;
      }
      for (int64_t t = 0; t < rows; ++t) out.put(at + (first + t) * stride + i, r[t], n);
    }
  }
}

CAMBIUM_INLINE vi lane_index() {
  vi lane;
  for (int i = 0; i < W; ++i) lane[i] = i;
  return lane;
}

// Two neighbouring rows of a right operand: rows `row` (even) and `row + 1`, W columns from `column` (a multiple of W).
// PAIRS: as bf16 pairs, in the panel's own layout. Otherwise as f32.
template <bool PAIRS>
CAMBIUM_INLINE void put_rows(const AttentionShape& s, void* panel, int64_t row, int64_t column, vf even, vf odd) {
#if defined(__AVX512BF16__)
  if (PAIRS) {
    const vi order = {0x100000, 0x110001, 0x120002, 0x130003, 0x140004, 0x150005, 0x160006, 0x170007,
                      0x180008, 0x190009, 0x1a000a, 0x1b000b, 0x1c000c, 0x1d000d, 0x1e000e, 0x1f000f};
    const __m512i halves = (__m512i)_mm512_cvtne2ps_pbh((__m512)odd, (__m512)even);  // 16 of even, then 16 of odd
    const int64_t pair = row / 2, block = s.kernel->pair_block, within = pair & (block - 1);
    int32_t* const to = static_cast<int32_t*>(panel) + (pair - within) * s.nr + column * block + within * 16;
    return store_int(to, (vi)_mm512_permutexvar_epi16((__m512i)order, halves));
  }
#endif
  float* const to = static_cast<float*>(panel) + row * s.nr + column;
  store(to, even);
  store(to + s.nr, odd);
}

}  // namespace CAMBIUM_LEVEL
}  // namespace cambium

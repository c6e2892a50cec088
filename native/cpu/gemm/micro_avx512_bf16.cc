// The bf16 micro-kernel on vdpbf16ps: panels of pairs, [k / 2][lane][2]; a dword of A is broadcast, a row of B has 32
// dwords. Sums of two products, accumulated in f32 along k in ascending order.
#include "pack_pairs.h"

namespace cambium {
namespace CAMBIUM_LEVEL {
namespace {

constexpr int kRows = 14, kColumns = 32;

template <int V>
void run(int64_t k, const void* a_panel, const void* b_panel, float* acc, bool accumulate) {
  const uint32_t* a = static_cast<const uint32_t*>(a_panel);
  const uint32_t* b = static_cast<const uint32_t*>(b_panel);
  __m512 c[kRows][V];
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 2
    for (int j = 0; j < V; ++j)
      c[i][j] = accumulate ? _mm512_loadu_ps(acc + i * kColumns + j * 16) : _mm512_setzero_ps();
  for (; k > 0; k -= 2, a += kRows, b += kColumns) {
    __m512bh row[V];
#pragma GCC unroll 2
    for (int j = 0; j < V; ++j) row[j] = (__m512bh)_mm512_loadu_si512(b + j * 16);
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
      const __m512bh x = (__m512bh)_mm512_set1_epi32(int(a[i]));
#pragma GCC unroll 2
      for (int j = 0; j < V; ++j) c[i][j] = _mm512_dpbf16_ps(c[i][j], x, row[j]);
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 2
    for (int j = 0; j < V; ++j) _mm512_storeu_ps(acc + i * kColumns + j * 16, c[i][j]);
}

// Lanes [lane, lane + WIDTH) of a panel that is LANES wide.
template <int LANES, int WIDTH>
inline void pack_lanes(const PairSource& s, int lanes, int64_t k, uint32_t* panel) {
  for (int64_t i = 0; i < k; i += kBlockK) {
    Pairs r[16];
    const int depth = k - i < kBlockK ? int(k - i) : kBlockK;
    prefetch_next(shifted(s, 0, i), lanes, LANES);
    pair_block(shifted(s, 0, i), lanes, depth, r);
    const int pairs = (depth + 1) / 2;
    for (int p = 0; p < pairs; ++p)
      _mm512_mask_storeu_epi32(panel + (i / 2 + p) * LANES, __mmask16((1u << WIDTH) - 1), (__m512i)r[p]);
  }
}

void pack_a(const MatrixView& v, int64_t rows, int64_t k, void* panel) {
  pack_lanes<kRows, kRows>(rows_of(v), int(rows), k, static_cast<uint32_t*>(panel));
}

void pack_b(const MatrixView& v, int64_t k, int64_t columns, void* panel) {
  uint32_t* const p = static_cast<uint32_t*>(panel);
  const PairSource s = columns_of(v);
  pack_lanes<kColumns, 16>(s, int(columns), k, p);
  pack_lanes<kColumns, 16>(shifted(s, 16, 0), columns > 16 ? int(columns - 16) : 0, k, p + 16);
}

const MicroKernel kKernel = {"avx512_bf16 dot", kRows, kColumns, 2, Element::bf16, run<2>, run<1>, pack_a, pack_b,
                             nullptr, nullptr, 1};

}  // namespace

const MicroKernel& micro_kernel_bf16() { return kKernel; }

}  // namespace CAMBIUM_LEVEL
}  // namespace cambium

// The bf16 micro-kernel on vdpbf16ps: panels of pairs, [k / 2][lane][2]; a dword of A is broadcast, a row of B has 32
// dwords. Sums of two products, accumulated in f32 along k in ascending order.
#include "ahead.h"
#include "pack_pairs.h"

namespace cambium {
namespace CAMBIUM_LEVEL {
namespace {

constexpr int kRows = 14, kShortRows = 8, kColumns = 32;

// The first R rows of a panel. Between stretches of k, the next row of `ahead` is asked for; null: one stretch.
template <int V, int R>
CAMBIUM_INLINE void multiply(int64_t k, const void* a_panel, const void* b_panel, float* acc, bool accumulate,
                             const Ahead* ahead) {
  const uint32_t* a = static_cast<const uint32_t*>(a_panel);
  const uint32_t* b = static_cast<const uint32_t*>(b_panel);
  __m512 c[R][V];
#pragma GCC unroll 16
  for (int i = 0; i < R; ++i)
#pragma GCC unroll 2
    for (int j = 0; j < V; ++j)
      c[i][j] = accumulate ? _mm512_loadu_ps(acc + i * kColumns + j * 16) : _mm512_setzero_ps();
  const int64_t stretch = ahead ? (k / ahead->rows + 1) / 2 * 2 + 2 : k;
  for (int row = 0; k > 0; ++row) {
    if (ahead && row < ahead->rows) ask_for_row(*ahead, row);
    const int64_t left = k > stretch ? k - stretch : 0;
    for (; k > left; k -= 2, a += kRows, b += kColumns) {
      __m512bh row_b[V];
#pragma GCC unroll 2
      for (int j = 0; j < V; ++j) row_b[j] = (__m512bh)_mm512_loadu_si512(b + j * 16);
#pragma GCC unroll 16
      for (int i = 0; i < R; ++i) {
        const __m512bh x = (__m512bh)_mm512_set1_epi32(int(a[i]));
#pragma GCC unroll 2
        for (int j = 0; j < V; ++j) c[i][j] = _mm512_dpbf16_ps(c[i][j], x, row_b[j]);
      }
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < R; ++i)
#pragma GCC unroll 2
    for (int j = 0; j < V; ++j) _mm512_storeu_ps(acc + i * kColumns + j * 16, c[i][j]);
}

template <int V, int R>
void run(int64_t k, const void* a, const void* b, float* acc, bool accumulate) {
  multiply<V, R>(k, a, b, acc, accumulate, nullptr);
}
template <int R>
void run_ahead(int64_t k, const void* a, const void* b, float* acc, bool accumulate, const Ahead& ahead) {
  multiply<kColumns / 16, R>(k, a, b, acc, accumulate, &ahead);
}

// A block's pair vectors, WIDTH lanes of each, into a panel that is LANES wide.
template <int LANES, int WIDTH>
CAMBIUM_INLINE void store_pairs(const Pairs (&r)[16], int pairs, uint32_t* panel) {
#pragma GCC unroll 16
  for (int p = 0; p < pairs; ++p) {
    if (WIDTH == 16) _mm512_storeu_si512(panel + p * LANES, (__m512i)r[p]);
    else _mm512_mask_storeu_epi32(panel + p * LANES, __mmask16((1u << WIDTH) - 1), (__m512i)r[p]);
  }
}

// The whole blocks of a panel whose lanes are all there; returns the k that they cover.
template <int LANES, int WIDTH, Element E, bool ALONG_K>
int64_t pack_whole(const PairSource& s, int64_t k, uint32_t* panel) {
  int64_t i = 0;
  for (; i + kBlockK <= k; i += kBlockK) {
    Pairs r[16];
    const PairSource block = shifted(s, 0, i);
    prefetch_next(block, WIDTH, LANES);
    whole_pair_block<WIDTH, E, ALONG_K>(block, r);
    store_pairs<LANES, WIDTH>(r, 16, panel + i / 2 * LANES);
  }
  return i;
}

// Lanes [lane, lane + WIDTH) of a panel that is LANES wide.
template <int LANES, int WIDTH>
inline void pack_lanes(const PairSource& s, int lanes, int64_t k, uint32_t* panel) {
  int64_t i = 0;
  if (lanes >= WIDTH) {
    if (s.type == Element::bf16)
      i = s.k_stride == 1 ? pack_whole<LANES, WIDTH, Element::bf16, true>(s, k, panel)
                          : pack_whole<LANES, WIDTH, Element::bf16, false>(s, k, panel);
    else
      i = s.k_stride == 1 ? pack_whole<LANES, WIDTH, Element::f32, true>(s, k, panel)
                          : pack_whole<LANES, WIDTH, Element::f32, false>(s, k, panel);
  }
  for (; i < k; i += kBlockK) {
    Pairs r[16];
    const int depth = k - i < kBlockK ? int(k - i) : kBlockK;
    prefetch_next(shifted(s, 0, i), lanes, LANES);
    pair_block(shifted(s, 0, i), lanes, depth, r);
    store_pairs<LANES, WIDTH>(r, (depth + 1) / 2, panel + i / 2 * LANES);
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

const MicroKernel kKernel = {"avx512_bf16 dot", kRows, kColumns, 2, Element::bf16, run<2, kRows>, run_ahead<kRows>,
                             run<1, kRows>, pack_a, pack_b, nullptr, nullptr, 1, kShortRows, run<2, kShortRows>, run<1, kShortRows>,
                             run_ahead<kShortRows>};

}  // namespace

const MicroKernel& micro_kernel_bf16() { return kKernel; }

}  // namespace CAMBIUM_LEVEL
}  // namespace cambium

// The f32 micro-kernels of one level: outer products of a column of A and a row of B, accumulated in registers.
// The tile is the largest that leaves room for a row of B and one broadcast of A.
#include "ahead.h"
#include "pack_f32.h"

namespace cambium {
namespace CAMBIUM_LEVEL {
namespace {

#if CAMBIUM_WIDTH == 16
constexpr int kRows = 14, kShortRows = 8, kColumns = 32;
#elif CAMBIUM_WIDTH == 8
constexpr int kRows = 6, kShortRows = 4, kColumns = 16;
#else
constexpr int kRows = 6, kShortRows = 4, kColumns = 8;
#endif

// V vectors of columns of a panel that is kColumns wide, times the first R rows of a panel of A. Between stretches of k, the next row of `ahead` is asked for.
template <int V, int R>
CAMBIUM_INLINE void multiply(int64_t k, const void* a_panel, const void* b_panel, float* acc, bool accumulate,
                             const Ahead* ahead) {
  const float* a = static_cast<const float*>(a_panel);
  const float* b = static_cast<const float*>(b_panel);
  vf c[R][V];
#pragma GCC unroll 16
  for (int i = 0; i < R; ++i)
#pragma GCC unroll 2
    for (int j = 0; j < V; ++j) c[i][j] = accumulate ? load(acc + i * kColumns + j * W) : set(0.f);
  const int64_t stretch = ahead ? k / ahead->rows + 1 : k;
  for (int row = 0; k > 0; ++row) {
    if (ahead && row < ahead->rows) ask_for_row(*ahead, row);
    const int64_t left = k > stretch ? k - stretch : 0;
    for (; k > left; --k, a += kRows, b += kColumns) {
      vf row_b[V];
#pragma GCC unroll 2
      for (int j = 0; j < V; ++j) row_b[j] = load(b + j * W);
#pragma GCC unroll 16
      for (int i = 0; i < R; ++i) {
        const vf x = set(a[i]);
#pragma GCC unroll 2
        for (int j = 0; j < V; ++j) c[i][j] = fma(x, row_b[j], c[i][j]);
      }
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < R; ++i)
#pragma GCC unroll 2
    for (int j = 0; j < V; ++j) store(acc + i * kColumns + j * W, c[i][j]);
}

template <int V, int R>
void run(int64_t k, const void* a, const void* b, float* acc, bool accumulate) {
  multiply<V, R>(k, a, b, acc, accumulate, nullptr);
}
template <int R>
void run_ahead(int64_t k, const void* a, const void* b, float* acc, bool accumulate, const Ahead& ahead) {
  multiply<kColumns / W, R>(k, a, b, acc, accumulate, &ahead);
}

#define CAMBIUM_TEXT(x) #x
#define CAMBIUM_NAME(level, suffix) CAMBIUM_TEXT(level) suffix

constexpr int kVectors = kColumns / W;

const MicroKernel kExact = {
    CAMBIUM_NAME(CAMBIUM_LEVEL, " f32"), kRows, kColumns, 1, Element::f32,
    run<kVectors, kRows>, run_ahead<kRows>, run<kVectors / 2, kRows>, pack_a_f32<kRows, false>, pack_b_f32<kColumns, false>,
    nullptr, nullptr, 0, kShortRows, run<kVectors, kShortRows>, run<kVectors / 2, kShortRows>, run_ahead<kShortRows>};
const MicroKernel kRounded = {
    CAMBIUM_NAME(CAMBIUM_LEVEL, " f32 of bf16"), kRows, kColumns, 1, Element::f32,
    run<kVectors, kRows>, run_ahead<kRows>, run<kVectors / 2, kRows>, pack_a_f32<kRows, true>, pack_b_f32<kColumns, true>,
    nullptr, nullptr, 0, kShortRows, run<kVectors, kShortRows>, run<kVectors / 2, kShortRows>, run_ahead<kShortRows>};

}  // namespace

const MicroKernel& micro_kernel_f32() { return kExact; }
const MicroKernel& micro_kernel_rounded() { return kRounded; }

}  // namespace CAMBIUM_LEVEL
}  // namespace cambium

// The f32 micro-kernels of one level: outer products of a column of A and a row of B, accumulated in registers.
// The tile is the largest that leaves room for a row of B and one broadcast of A.
#include "pack_f32.h"

namespace cambium {
namespace CAMBIUM_LEVEL {
namespace {

#if CAMBIUM_WIDTH == 16
constexpr int kRows = 14, kColumns = 32;
#elif CAMBIUM_WIDTH == 8
constexpr int kRows = 6, kColumns = 16;
#else
constexpr int kRows = 6, kColumns = 8;
#endif

// V vectors of columns of a panel that is kColumns wide.
template <int V>
void run(int64_t k, const void* a_panel, const void* b_panel, float* acc, bool accumulate) {
  const float* a = static_cast<const float*>(a_panel);
  const float* b = static_cast<const float*>(b_panel);
  vf c[kRows][V];
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 2
    for (int j = 0; j < V; ++j) c[i][j] = accumulate ? load(acc + i * kColumns + j * W) : set(0.f);
  for (; k > 0; --k, a += kRows, b += kColumns) {
    vf row[V];
#pragma GCC unroll 2
    for (int j = 0; j < V; ++j) row[j] = load(b + j * W);
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
      const vf x = set(a[i]);
#pragma GCC unroll 2
      for (int j = 0; j < V; ++j) c[i][j] = fma(x, row[j], c[i][j]);
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 2
    for (int j = 0; j < V; ++j) store(acc + i * kColumns + j * W, c[i][j]);
}

#define CAMBIUM_TEXT(x) #x
#define CAMBIUM_NAME(level, suffix) CAMBIUM_TEXT(level) suffix

const MicroKernel kExact = {CAMBIUM_NAME(CAMBIUM_LEVEL, " f32"), kRows, kColumns, 1, Element::f32, run<kColumns / W>,
                            run<kColumns / W / 2>, pack_a_f32<kRows, false>, pack_b_f32<kColumns, false>,
                            nullptr, nullptr, 0};
const MicroKernel kRounded = {CAMBIUM_NAME(CAMBIUM_LEVEL, " f32 of bf16"), kRows, kColumns, 1, Element::f32,
                              run<kColumns / W>, run<kColumns / W / 2>, pack_a_f32<kRows, true>,
                              pack_b_f32<kColumns, true>, nullptr, nullptr, 0};

}  // namespace

const MicroKernel& micro_kernel_f32() { return kExact; }
const MicroKernel& micro_kernel_rounded() { return kRounded; }

}  // namespace CAMBIUM_LEVEL
}  // namespace cambium

// f32 tiles of a product in shared memory, kStep of k at a time, the next ones on their way in registers. A block has
// kThreads; every sum goes along k in order.
#pragma once
#include "cuda/elementwise.h"
#include "cuda/gemm.h"
#include "cuda/warp.h"

namespace cambium {
namespace cuda {

constexpr int kStep = 16, kSide = 16;  // of k in one step; threads along each side of a tile
static_assert(kSide * kSide == kThreads, "a thread a piece");

// kStep columns of TILE rows. The padding spreads what a warp reads or writes down a column over the banks.
template <int TILE, int PADDING = 4>
using TileF32 = float[kStep][TILE + PADDING];

// One operand's tile on its way: rows [first, first + TILE) of [rows, k], columns [k0, k0 + kStep).
template <int TILE>
struct Pieces {
  static constexpr int kCount = TILE * kStep / kThreads;
  float x[kCount];
  __device__ static int row(bool across, int i) {
    return across ? (threadIdx.x + i * kThreads) % TILE : threadIdx.x / kStep + i * (kThreads / kStep);
  }
  __device__ static int depth(bool across, int i) {
    return across ? (threadIdx.x + i * kThreads) / TILE : threadIdx.x % kStep;
  }
  __device__ void load(const Operand& o, int64_t first, int64_t rows, int64_t k0, int64_t k) {
    const Input from{o.data, o.type};
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const int64_t r = first + row(o.across, i), j = k0 + depth(o.across, i);
      x[i] = r < rows && j < k ? from.at(o.across ? j * o.stride + r : r * o.stride + j) : 0.f;
    }
  }
  template <bool TF32 = false, int LINE>
  __device__ void keep(bool across, float (&tile)[kStep][LINE]) const {
#pragma unroll
    for (int i = 0; i < kCount; ++i) tile[depth(across, i)][row(across, i)] = TF32 ? round_tf32(x[i]) : x[i];
  }
};

// sum += a bᵀ over one step: rows [y·T, y·T + T) of a, [x·U, x·U + U) of b.
template <int T, int U>
__device__ inline void multiply_step(const TileF32<T * kSide>& a, const TileF32<U * kSide>& b, int y, int x,
                                     float (&sum)[T][U]) {
#pragma unroll
  for (int k = 0; k < kStep; ++k) {
    float u[T], v[U];
#pragma unroll
    for (int i = 0; i < T; ++i) u[i] = a[k][y * T + i];
#pragma unroll
    for (int j = 0; j < U; ++j) v[j] = b[k][x * U + j];
#pragma unroll
    for (int i = 0; i < T; ++i)
#pragma unroll
      for (int j = 0; j < U; ++j) sum[i][j] = fmaf(u[i], v[j], sum[i][j]);
  }
}

}  // namespace cuda
}  // namespace cambium

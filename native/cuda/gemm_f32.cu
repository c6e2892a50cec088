// The f32 product: tiles in shared memory, 16 of k at a time, the next ones on their way in registers. Full f32
// multiply-adds, the reference path; or, where it is asked for, tensor cores over operands rounded to TF32. Operands
// may be bf16.
#include "cuda/gemm_tiles.h"
#include "cuda/tiles_f32.h"

namespace cambium {
namespace cuda {
namespace {

// The sums of one thread: add(a, b) goes one step along k, each(f) gives f(row, column, n, line) for every run of n of
// them in the tile.

template <int T>
struct PlainSums {
  static constexpr int kTile = T * kSide;
  static constexpr bool kTf32 = false;
  using Tile = TileF32<kTile>;
  float sum[T][T] = {};
  __device__ void add(const Tile& a, const Tile& b) {
    multiply_step(a, b, threadIdx.x / kSide, threadIdx.x % kSide, sum);
  }
  template <class F>
  __device__ void each(const F& f) const {
#pragma unroll
    for (int i = 0; i < T; ++i) {
      float line[kLanes] = {};
#pragma unroll
      for (int j = 0; j < T; ++j) line[j] = sum[i][j];
      f(threadIdx.x / kSide * T + i, threadIdx.x % kSide * T, T, line);
    }
  }
};

// Warps 2 × 4 over the tile, each with R × C fragments of 16 × 8 (warp.h: mma_tf32).
template <int TILE>
struct TensorSums {
  static constexpr int kTile = TILE, kRows = TILE / 2, kColumns = TILE / 4, R = kRows / 16, C = kColumns / 8;
  static constexpr bool kTf32 = true;
  using Tile = TileF32<TILE, 8>;  // lanes 4g + t read column t, row g: banks 8t + g
  float sum[R][C][4] = {};
  __device__ static int first_row() { return threadIdx.x / kWarp / 4 * kRows; }
  __device__ static int first_column() { return threadIdx.x / kWarp % 4 * kColumns; }
  __device__ void add(const Tile& a, const Tile& b) {
    const int g = threadIdx.x % kWarp / 4, t = threadIdx.x % 4;
#pragma unroll
    for (int k = 0; k < kStep; k += 8) {
      uint32_t left[R][4], right[C][2];
#pragma unroll
      for (int i = 0; i < R; ++i)
#pragma unroll
        for (int q = 0; q < 4; ++q)
          left[i][q] = bits_of(a[k + t + q / 2 * 4][first_row() + i * 16 + g + q % 2 * 8]);
#pragma unroll
      for (int j = 0; j < C; ++j)
#pragma unroll
        for (int q = 0; q < 2; ++q) right[j][q] = bits_of(b[k + t + q * 4][first_column() + j * 8 + g]);
#pragma unroll
      for (int i = 0; i < R; ++i)
#pragma unroll
        for (int j = 0; j < C; ++j) mma_tf32(sum[i][j], left[i], right[j]);
    }
  }
  template <class F>
  __device__ void each(const F& f) const {
    const int g = threadIdx.x % kWarp / 4, t = threadIdx.x % 4;
#pragma unroll
    for (int i = 0; i < R; ++i)
#pragma unroll
      for (int half = 0; half < 2; ++half)
#pragma unroll
        for (int j = 0; j < C; ++j) {
          float line[kLanes] = {sum[i][j][2 * half], sum[i][j][2 * half + 1]};
          f(first_row() + i * 16 + half * 8 + g, first_column() + j * 8 + 2 * t, 2, line);
        }
  }
};

// The second bound: blocks that a multiprocessor shall have at least. One of the large tiles will do, or else sm_80 spills.
template <class Sums>
__global__ void __launch_bounds__(kThreads, Sums::kTile > 64 ? 1 : 4) product_f32_kernel(Product p, float* partial) {
  constexpr int kTile = Sums::kTile;
  __shared__ typename Sums::Tile a, b;
  const Corner first = corner_of(p, kTile);
  const int64_t steps0 = divide_up(p.part[0].k, kStep),
                all = steps0 + (p.parts > 1 ? divide_up(p.part[1].k, kStep) : 0);
  const Steps steps = steps_of(p.epilogue.closed() ? 0 : all, blockIdx.z, gridDim.z);
  Sums sums;
  Pieces<kTile> left, right;
  const auto load = [&](int64_t step) {
    const Part& part = p.part[step < steps0 ? 0 : 1];
    const int64_t k0 = (step < steps0 ? step : step - steps0) * kStep;
    left.load(part.a, first.row, p.m, k0, part.k);
    right.load(part.b, first.column, p.n, k0, part.k);
  };
  if (steps.begin < steps.end) load(steps.begin);
  for (int64_t step = steps.begin; step < steps.end; ++step) {
    left.template keep<Sums::kTf32>(p.part[0].a.across, a);
    right.template keep<Sums::kTf32>(p.part[0].b.across, b);
    __syncthreads();
    if (step + 1 < steps.end) load(step + 1);
    sums.add(a, b);
    __syncthreads();
  }
  sums.each([&](int down, int along, int width, float (&line)[kLanes]) {
    const int64_t row = first.row + down, column = first.column + along;
    const int n = int(larger(0, smaller(width, p.n - column)));
    if (row >= p.m || n == 0) return;
    if (partial != nullptr)
      Output{partial, CB_F32, 0}.store((int64_t(blockIdx.z) * p.m + row) * p.n + column, n, line);
    else
      p.epilogue.finish(row, column, n, line);
  });
}

template <class Sums>
int run(CbContext* context, const Product& p, int splits, float* partial) {
  return CB_LAUNCH(context, (product_f32_kernel<Sums>), grid_of(p, Sums::kTile, splits), dim3(kThreads), 0, p, partial);
}

}  // namespace

int multiply_f32(CbContext* context, const Product& p, int splits, float* partial) {
  if (by_tf32(context, p)) return (large(p) ? run<TensorSums<128>> : run<TensorSums<64>>)(context, p, splits, partial);
  return (large(p) ? run<PlainSums<8>> : run<PlainSums<4>>)(context, p, splits, partial);
}

}  // namespace cuda
}  // namespace cambium

// The f32 product: tiles in shared memory, 16 of k at a time, the next ones on their way in registers; a thread owns a
// T×T piece of the tile. Full f32 multiply-adds: the reference path, and the one of losses. Operands may be bf16.
#include "cuda/elementwise.h"
#include "cuda/gemm.h"
#include "cuda/gemm_tiles.h"

namespace cambium {
namespace cuda {
namespace {

constexpr int kDepth = 16, kSide = 16;  // of k in one step; threads along each side of a tile

// One operand's tile on its way: rows [first, first + TILE) of [rows, k], columns [k0, k0 + kDepth).
template <int TILE>
struct Pieces {
  static constexpr int kCount = TILE * kDepth / kThreads;
  float x[kCount];
  __device__ static int row(bool across, int i) {
    return across ? (threadIdx.x + i * kThreads) % TILE : threadIdx.x / kDepth + i * (kThreads / kDepth);
  }
  __device__ static int depth(bool across, int i) {
    return across ? (threadIdx.x + i * kThreads) / TILE : threadIdx.x % kDepth;
  }
  __device__ void load(const Operand& o, int64_t first, int64_t rows, int64_t k0, int64_t k) {
    const Input from{o.data, o.type};
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const int64_t r = first + row(o.across, i), j = k0 + depth(o.across, i);
      x[i] = r < rows && j < k ? from.at(o.across ? j * o.stride + r : r * o.stride + j) : 0.f;
    }
  }
  __device__ void keep(bool across, float (&tile)[kDepth][TILE + 4]) const {
#pragma unroll
    for (int i = 0; i < kCount; ++i) tile[depth(across, i)][row(across, i)] = x[i];
  }
};

template <int T>
__global__ void __launch_bounds__(kThreads) product_f32_kernel(Product p, float* partial) {
  constexpr int kTile = T * kSide;
  __shared__ float a[kDepth][kTile + 4], b[kDepth][kTile + 4];
  const int64_t first_row = int64_t(blockIdx.y) * kTile, first_column = int64_t(blockIdx.x) * kTile;
  const int64_t steps0 = divide_up(p.part[0].k, kDepth),
                all = steps0 + (p.parts > 1 ? divide_up(p.part[1].k, kDepth) : 0);
  const Steps steps = steps_of(p.epilogue.closed() ? 0 : all, blockIdx.z, gridDim.z);
  const int x = threadIdx.x % kSide, y = threadIdx.x / kSide;
  float sum[T][T] = {};
  Pieces<kTile> left, right;
  const auto load = [&](int64_t step) {
    const Part& part = p.part[step < steps0 ? 0 : 1];
    const int64_t k0 = (step < steps0 ? step : step - steps0) * kDepth;
    left.load(part.a, first_row, p.m, k0, part.k);
    right.load(part.b, first_column, p.n, k0, part.k);
  };
  if (steps.begin < steps.end) load(steps.begin);
  for (int64_t step = steps.begin; step < steps.end; ++step) {
    left.keep(p.part[0].a.across, a);
    right.keep(p.part[0].b.across, b);
    __syncthreads();
    if (step + 1 < steps.end) load(step + 1);
#pragma unroll
    for (int k = 0; k < kDepth; ++k) {
      float u[T], v[T];
#pragma unroll
      for (int i = 0; i < T; ++i) u[i] = a[k][y * T + i], v[i] = b[k][x * T + i];
#pragma unroll
      for (int i = 0; i < T; ++i)
#pragma unroll
        for (int j = 0; j < T; ++j) sum[i][j] = fmaf(u[i], v[j], sum[i][j]);
    }
    __syncthreads();
  }
  const int64_t column = first_column + x * T;
  const int n = int(larger(0, smaller(T, p.n - column)));
#pragma unroll
  for (int i = 0; i < T; ++i) {
    const int64_t row = first_row + y * T + i;
    if (row >= p.m || n == 0) continue;
    float line[kLanes] = {};
#pragma unroll
    for (int j = 0; j < T; ++j) line[j] = sum[i][j];
    if (partial != nullptr)
      Output{partial, CB_F32, 0}.store((int64_t(blockIdx.z) * p.m + row) * p.n + column, n, line);
    else
      p.epilogue.finish(row, column, n, line);
  }
}

template <int T>
int run(CbContext* context, const Product& p, int splits, float* partial) {
  const dim3 grid(unsigned(divide_up(p.n, T * kSide)), unsigned(divide_up(p.m, T * kSide)), unsigned(splits));
  return CB_LAUNCH(context, (product_f32_kernel<T>), grid, dim3(kThreads), 0, p, partial);
}

}  // namespace

int multiply_f32(CbContext* context, const Product& p, int splits, float* partial) {
  return (large(p) ? run<8> : run<4>)(context, p, splits, partial);
}

}  // namespace cuda
}  // namespace cambium

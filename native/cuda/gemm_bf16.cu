// The bf16 product: mma.m16n8k16 with f32 sums, tiles of both operands on their way through a ring of kStages in shared
// memory (cp.async), fragments by ldmatrix. A warp owns a [WM, WN] piece of the tile; its sums leave through shared
// memory, so that the epilogue reads and writes 16 bytes at a time.
#include "cuda/elementwise.h"
#include "cuda/gemm.h"
#include "cuda/gemm_tiles.h"
#include "cuda/tiles.h"

namespace cambium {
namespace cuda {
namespace {

constexpr int kStages = 4;

template <int TILE, int WM, int WN>
struct Shape {
  static constexpr int kTile = TILE, kWarpM = WM, kWarpN = WN, kAcross = TILE / WN;  // warps beside each other
  static constexpr int kThreads = TILE / WM * kAcross * kWarp;
  static constexpr int kChunks = TILE * cuda::kDepth / 8;  // of one operand in one stage
  static constexpr int kLine = WN + 4;  // floats from row to row of sums on their way out: a shift of banks
  static constexpr size_t kBytes = size_t(kStages) * 2 * kChunks * sizeof(Quad);
};
// 64 × 64 a warp: eight reads of fragments feed 32 products. With 64 × 32, six for 16, shared memory rather than the
// tensor cores would set the pace on a GPU of compute capability 9.0.
using Large = Shape<128, 64, 64>;
using Small = Shape<64, 32, 32>;

// Starts the copies of one operand's tile: rows [first, ...) of [rows, k], k from k0 on. Beyond the matrix are zeros.
template <class S, bool ACROSS>
__device__ void copy_tile(Quad* tile, const Operand& o, int64_t first, int64_t rows, int64_t k0, int64_t k) {
  constexpr int kPerLine = ACROSS ? S::kTile / 8 : kDepth / 8;
  const uint16_t* const data = static_cast<const uint16_t*>(o.data);
#pragma unroll
  for (int i = 0; i < S::kChunks / S::kThreads; ++i) {
    const int index = threadIdx.x + i * S::kThreads, line = index / kPerLine, chunk = index % kPerLine;
    const int64_t outer = (ACROSS ? k0 : first) + line, inner = (ACROSS ? first : k0) + chunk * 8;
    const int64_t left = (ACROSS ? rows : k) - inner;
    const int bytes = outer < (ACROSS ? k : rows) ? int(larger(0, smaller(8, left))) * 2 : 0;
    copy_async(tile + chunk_at<ACROSS, S::kTile>(line, chunk), bytes > 0 ? data + outer * o.stride + inner : data,
               bytes);
  }
}

template <class S>
struct Sums {
  float at[S::kWarpM / 16][S::kWarpN / 8][4];
};

// sums += left · rightᵀ over one tile.
template <class S, bool A_ACROSS, bool B_ACROSS>
__device__ void multiply_tile(Sums<S>& sums, const Quad* left, const Quad* right, int row, int column) {
#pragma unroll
  for (int k = 0; k < kDepth; k += 16) {
    uint32_t a[S::kWarpM / 16][4], b[S::kWarpN / 16][4];
#pragma unroll
    for (int i = 0; i < S::kWarpM / 16; ++i) load_left<A_ACROSS, S::kTile>(a[i], left, row + i * 16, k);
#pragma unroll
    for (int j = 0; j < S::kWarpN / 16; ++j) load_right<B_ACROSS, S::kTile>(b[j], right, column + j * 16, k);
#pragma unroll
    for (int i = 0; i < S::kWarpM / 16; ++i)
#pragma unroll
      for (int j = 0; j < S::kWarpN / 8; ++j) {
        const uint32_t pair[2] = {b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]};
        mma_bf16(sums.at[i][j], a[i], pair);
      }
  }
}

// Sixteen rows of a warp's sums at a time, through `room` [16][S::kLine].
template <class S>
__device__ void store_sums(const Product& p, const Sums<S>& sums, float* room, int64_t row, int64_t column,
                           float* partial) {
  const int lane = threadIdx.x % kWarp;
  for (int i = 0; i < S::kWarpM / 16; ++i) {
    __syncwarp();
#pragma unroll
    for (int tile = 0; tile < S::kWarpM / 16; ++tile) {
      if (tile != i) continue;  // sums stay in registers: no index that changes at run time
#pragma unroll
      for (int j = 0; j < S::kWarpN / 8; ++j)
#pragma unroll
        for (int c = 0; c < 4; ++c)
          room[(lane / 4 + c / 2 * 8) * S::kLine + j * 8 + lane % 4 * 2 + c % 2] = sums.at[tile][j][c];
    }
    __syncwarp();
#pragma unroll
    for (int part = 0; part < 16 * S::kWarpN / kLanes / kWarp; ++part) {
      const int index = part * kWarp + lane, line = index / (S::kWarpN / kLanes),
                at = index % (S::kWarpN / kLanes) * kLanes;
      const int64_t to_row = row + i * 16 + line, to = column + at;
      const int n = int(smaller(kLanes, p.n - to));
      if (to_row >= p.m || n <= 0) continue;
      float v[kLanes];
#pragma unroll
      for (int j = 0; j < kLanes; ++j) v[j] = room[line * S::kLine + at + j];
      if (partial != nullptr)
        Output{partial, CB_F32, 0}.store((int64_t(blockIdx.z) * p.m + to_row) * p.n + to, n, v);
      else
        p.epilogue.finish(to_row, to, n, v);
    }
  }
}

template <class S, bool A_ACROSS, bool B_ACROSS>
__global__ void __launch_bounds__(S::kThreads) product_bf16_kernel(const __grid_constant__ Product p, float* partial) {
  CB_DYNAMIC_SHARED(Quad, shared);
  const Corner first = corner_of(p, S::kTile);
  const int64_t steps0 = divide_up(p.part[0].k, kDepth),
                all = steps0 + (p.parts > 1 ? divide_up(p.part[1].k, kDepth) : 0);
  const Steps steps = steps_of(p.epilogue.closed() ? 0 : all, blockIdx.z, gridDim.z);
  const int warp = threadIdx.x / kWarp, row = warp / S::kAcross * S::kWarpM, column = warp % S::kAcross * S::kWarpN;
  const auto fetch = [&](int64_t step) {
    if (step < steps.end) {
      Quad* const stage = shared + (step - steps.begin) % kStages * 2 * S::kChunks;
      const Part& part = step < steps0 ? p.part[0] : p.part[1];
      const int64_t k0 = (step < steps0 ? step : step - steps0) * kDepth;
      copy_tile<S, A_ACROSS>(stage, part.a, first.row, p.m, k0, part.k);
      copy_tile<S, B_ACROSS>(stage + S::kChunks, part.b, first.column, p.n, k0, part.k);
    }
    commit_async();  // also of nothing: groups are counted
  };
  Sums<S> sums = {};
  for (int i = 0; i < kStages - 1; ++i) fetch(steps.begin + i);
  for (int64_t step = steps.begin; step < steps.end; ++step) {
    wait_async<kStages - 2>();
    __syncthreads();
    fetch(step + kStages - 1);  // into the stage that all have left
    const Quad* const stage = shared + (step - steps.begin) % kStages * 2 * S::kChunks;
    multiply_tile<S, A_ACROSS, B_ACROSS>(sums, stage, stage + S::kChunks, row, column);
  }
  wait_async<0>();
  __syncthreads();
  float* const room = reinterpret_cast<float*>(shared) + warp * 16 * S::kLine;
  store_sums<S>(p, sums, room, first.row + row, first.column + column, partial);
}

template <class S, bool A_ACROSS, bool B_ACROSS>
int run(CbContext* context, const Product& p, int splits, float* partial) {
  return CB_LAUNCH(context, (product_bf16_kernel<S, A_ACROSS, B_ACROSS>), grid_of(p, S::kTile, splits),
                   dim3(S::kThreads), S::kBytes, p, partial);
}

template <class S>
int run(CbContext* context, const Product& p, int splits, float* partial) {
  const bool a = p.part[0].a.across, b = p.part[0].b.across;
  if (a) return (b ? run<S, true, true> : run<S, true, false>)(context, p, splits, partial);
  return (b ? run<S, false, true> : run<S, false, false>)(context, p, splits, partial);
}

}  // namespace

int multiply_bf16(CbContext* context, const Product& p, int splits, float* partial) {
  return (large(p) ? run<Large> : run<Small>)(context, p, splits, partial);
}

}  // namespace cuda
}  // namespace cambium

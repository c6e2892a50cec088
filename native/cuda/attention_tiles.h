// Tiles of rows of one head in shared memory, bf16, for the tensor cores. A row has kWidth elements and a pad of eight:
// eight rows that follow each other lie in eight different groups of banks, whatever the width.
#pragma once
#include "cuda/attention.h"
#include "cuda/warp.h"

namespace cambium {
namespace cuda {

constexpr int kTileWarps = 4, kTileThreads = kTileWarps * 32,
              kTileRows = kTileWarps * 16;  // a warp has 16 rows of a block's tile

template <int WIDTH>
struct RowTile {
  static constexpr int kStride = WIDTH + 8;
  uint16_t* at;
  __device__ uint16_t* row(int r) const { return at + r * kStride; }
  __host__ __device__ static constexpr size_t bytes(int rows) { return size_t(rows) * kStride * sizeof(uint16_t); }

  // Starts the copies of `rows` rows (a multiple of 8), of which the first `count` exist; the rest, and columns from
  // `width` on, become zeros. from, width and stride: whole chunks of 16 bytes.
  __device__ void copy(const uint16_t* from, int64_t stride, int64_t count, int rows, int width) const {
    constexpr int kChunks = WIDTH / 8;
    for (int i = threadIdx.x; i < rows * kChunks; i += kTileThreads) {
      const int r = i / kChunks, c = i % kChunks * 8;
      const bool inside = r < count && c < width;
      copy_async(row(r) + c, inside ? from + r * stride + c : from, inside ? 16 : 0);
    }
  }
  // The same from f32, at once.
  __device__ void round(const Input& from, int64_t first, int64_t stride, int64_t count, int rows, int width) const {
    for (int i = threadIdx.x; i < rows * WIDTH; i += kTileThreads) {
      const int r = i / WIDTH, c = i % WIDTH;
      row(r)[c] = r < count && c < width ? narrow(from.at(first + r * stride + c)) : uint16_t(0);
    }
  }
  // Writes rows [first, first + 16) of the tile, by one warp, 16 bytes at a time.
  __device__ void store(int first, uint16_t* to, int64_t stride, int64_t count, int width) const {
    constexpr int kChunks = WIDTH / 8;
    __syncwarp();
    for (int i = threadIdx.x % 32; i < 16 * kChunks; i += 32) {
      const int r = first + i / kChunks, c = i % kChunks * 8;
      if (r < count && c < width)
        *reinterpret_cast<Quad*>(to + r * stride + c) = *reinterpret_cast<const Quad*>(row(r) + c);
    }
  }
};

// Sixteen rows from `row` on and 16 columns from `column` on, as a left operand.
template <int WIDTH>
__device__ inline void load_left(uint32_t (&a)[4], RowTile<WIDTH> tile, int row, int column) {
  const int lane = threadIdx.x % 32;
  load_matrix_x4(a, tile.row(row + lane % 16) + column + lane / 16 * 8);
}
// The same rows as columns of a right operand [16 of the tile's columns, 16 rows]: b[0..1] of the first eight rows.
template <int WIDTH>
__device__ inline void load_right(uint32_t (&b)[4], RowTile<WIDTH> tile, int row, int column) {
  const int lane = threadIdx.x % 32;
  load_matrix_x4(b, tile.row(row + lane / 16 * 8 + lane % 8) + column + lane / 8 % 2 * 8);
}
// The rows as rows of a right operand [16 rows, 16 of the tile's columns]: b[0..1] of the first eight columns.
template <int WIDTH>
__device__ inline void load_right_rows(uint32_t (&b)[4], RowTile<WIDTH> tile, int row, int column) {
  const int lane = threadIdx.x % 32;
  load_matrix_x4_transposed(b, tile.row(row + lane % 16) + column + lane / 16 * 8);
}

// Two products with the halves of what load_right or load_right_rows gives.
__device__ inline void multiply_pair(float (&low)[4], float (&high)[4], const uint32_t (&a)[4],
                                     const uint32_t (&b)[4]) {
  const uint32_t first[2] = {b[0], b[1]}, second[2] = {b[2], b[3]};
  mma_bf16(low, a, first);
  mma_bf16(high, a, second);
}

// Sixteen columns of sums, two tiles of eight, as a left operand.
__device__ inline void left_of(uint32_t (&a)[4], const float (&low)[4], const float (&high)[4]) {
  a[0] = narrow_pair(low[0], low[1]);
  a[1] = narrow_pair(low[2], low[3]);
  a[2] = narrow_pair(high[0], high[1]);
  a[3] = narrow_pair(high[2], high[3]);
}

// sums [16, 8·TILES] of a warp, rounded, to rows [row, row + 16) of a tile that this warp alone has left.
template <int WIDTH>
__device__ inline void keep_rows(RowTile<WIDTH> tile, int row, const float (&sums)[WIDTH / 8][4], float low_factor,
                                 float high_factor) {
  const int lane = threadIdx.x % 32;
  __syncwarp();
#pragma unroll
  for (int t = 0; t < WIDTH / 8; ++t) {
    const uint32_t low = narrow_pair(low_factor * sums[t][0], low_factor * sums[t][1]);
    const uint32_t high = narrow_pair(high_factor * sums[t][2], high_factor * sums[t][3]);
    *reinterpret_cast<uint32_t*>(tile.row(row + lane / 4) + t * 8 + lane % 4 * 2) = low;
    *reinterpret_cast<uint32_t*>(tile.row(row + lane / 4 + 8) + t * 8 + lane % 4 * 2) = high;
  }
}

// Sum or maximum over the four lanes that share a row of a fragment.
__device__ inline float quad_sum(float x) {
  x += __shfl_xor_sync(0xffffffffu, x, 1);
  return x + __shfl_xor_sync(0xffffffffu, x, 2);
}
__device__ inline float quad_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 1));
  return fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 2));
}

}  // namespace cuda
}  // namespace cambium

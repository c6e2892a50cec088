// How a product is cut into tiles and splits: by its shape alone, so that every machine gives the same bits.
#pragma once
#include "cuda/gemm.h"

namespace cambium {
namespace cuda {

constexpr int64_t kLargeTile = 128, kSmallTile = 64;
constexpr int64_t kFullMachine = 132;  // multiprocessors of a large GPU
constexpr int64_t kSplitDepth = 256;   // the least of k that is worth a split of its own
constexpr int64_t kDeep = 4096;        // of k, from where splits cost little: gradients of weights
constexpr int64_t kMostSplits = 64;

inline int64_t tiles_of(const Product& p, int64_t tile) { return divide_up(p.m, tile) * divide_up(p.n, tile); }
inline int64_t depth_of(const Product& p) { return p.part[0].k + (p.parts > 1 ? p.part[1].k : 0); }

// Large tiles where they, or their splits, are enough for half of the machine.
inline bool large(const Product& p) {
  if (p.m < kLargeTile || p.n < kLargeTile) return false;
  const int64_t depth = depth_of(p), splits = depth >= kDeep ? depth / kSplitDepth : 1;
  return tiles_of(p, kLargeTile) * splits >= kFullMachine / 2;
}

inline int splits_of(const Product& p) {
  const int64_t tiles = tiles_of(p, large(p) ? kLargeTile : kSmallTile), depth = depth_of(p);
  const int64_t wanted = (depth >= kDeep ? 2 : 1) * kFullMachine / tiles;
  return int(larger(1, smaller(smaller(kMostSplits, wanted), depth / kSplitDepth)));
}

// Where a block's tile begins. Tiles lie along x alone, those of the same rows beside each other: y ends at 65,535.
struct Corner {
  int64_t row, column;
};
__device__ inline Corner corner_of(const Product& p, int64_t tile) {
  const unsigned columns = unsigned(divide_up(p.n, tile));
  return {int64_t(blockIdx.x / columns) * tile, int64_t(blockIdx.x % columns) * tile};
}
inline dim3 grid_of(const Product& p, int64_t tile, int splits) {
  return dim3(unsigned(tiles_of(p, tile)), 1, unsigned(splits));
}

// The steps of k of one split, counted over both parts: [begin, end).
struct Steps {
  int64_t begin, end;
};
__device__ inline Steps steps_of(int64_t all, int split, int splits) {
  return {all * split / splits, all * (split + 1) / splits};
}

}  // namespace cuda
}  // namespace cambium

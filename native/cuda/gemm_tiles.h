// How a product is cut into tiles and splits: by its shape alone, so that every machine gives the same bits.
#pragma once
#include "cuda/gemm.h"

namespace cambium {
namespace cuda {

constexpr int64_t kLargeTile = 128, kSmallTile = 64;
constexpr int64_t kFullMachine = 132;  // blocks that keep the largest GPU of today busy
constexpr int64_t kSplitDepth = 256;   // the least of k that is worth a split of its own
constexpr int64_t kMostSplits = 64;

__host__ __device__ inline int64_t tiles_of(const Product& p, int64_t tile) { return divide_up(p.m, tile) * divide_up(p.n, tile); }
__host__ __device__ inline bool large(const Product& p) { return p.m >= kLargeTile && p.n >= kLargeTile && tiles_of(p, kLargeTile) >= kFullMachine / 2; }

inline int64_t depth_of(const Product& p) { return p.part[0].k + (p.parts > 1 ? p.part[1].k : 0); }

inline int splits_of(const Product& p) {
  const int64_t tiles = tiles_of(p, large(p) ? kLargeTile : kSmallTile);
  return int(larger(1, smaller(smaller(kMostSplits, 2 * kFullMachine / tiles), depth_of(p) / kSplitDepth)));
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

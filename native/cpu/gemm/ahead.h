// How a micro-kernel walks through what it is to ask for; see Ahead in gemm.h.
#pragma once
#include "../simd.h"
#include "gemm.h"

namespace cambium {
namespace CAMBIUM_LEVEL {

// Row `row` of every array.
CAMBIUM_INLINE void ask_for_row(const Ahead& ahead, int row) {
  for (int i = 0; i < ahead.arrays; ++i) {
    const char* const p = ahead.row[i] + row * ahead.stride[i];
    if (i < ahead.near)
      for (int byte = 0; byte < ahead.bytes[i]; byte += 64) __builtin_prefetch(p + byte);
    else
      for (int byte = 0; byte < ahead.bytes[i]; byte += 64) __builtin_prefetch(p + byte, 0, 2);
  }
}

// How tiles of `rows` rows, one after the other, ask for contiguous memory: `lines` lines for each row. No more than kMostLines: a
// tile that has little to do would wait for them.
struct Shares {
  const char* data;
  int64_t all, lines, rows;
};
constexpr int64_t kLine = 64, kMostLines = 16;
inline Shares shares_of(int64_t bytes, int64_t tiles, int64_t rows) {
  const int64_t all = (bytes + kLine - 1) / kLine, needed = (all + tiles * rows - 1) / (tiles * rows);
  return {nullptr, all, needed < kMostLines ? needed : kMostLines, rows};
}
// Adds the share of tile `i`.
CAMBIUM_INLINE void add_share(const Shares& s, int64_t i, Ahead* ahead) {
  const int64_t at = i * s.lines * s.rows;
  if (at >= s.all || ahead->arrays == kAheadArrays) return;
  const int n = ahead->arrays++;
  ahead->row[n] = s.data + at * kLine, ahead->stride[n] = s.lines * kLine, ahead->bytes[n] = int(s.lines * kLine);
}

}  // namespace CAMBIUM_LEVEL
}  // namespace cambium

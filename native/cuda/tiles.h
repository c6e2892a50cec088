// bf16 tiles in shared memory as the matrix units read them: lines of 16-byte chunks, swizzled so that neither the
// copies from memory nor the reads of eight lines of a fragment meet in one bank.
//
// Two layouts of a tile of `rows` × kDepth: along k, a line is one row (4 chunks of k); across, a line is one k (rows /
// 8 chunks of rows). Fragments are those of mma.m16n8k16: `along` reads them as they lie, `across` transposed on the
// way.
#pragma once
#include "cuda/element.h"
#include "cuda/warp.h"

namespace cambium {
namespace cuda {

constexpr int kDepth = 32;  // of k in one tile

// Where chunk `chunk` of line `line` lies, in chunks.
template <bool ACROSS, int ROWS>
__device__ inline int chunk_at(int line, int chunk) {
  if (ACROSS) return line * (ROWS / 8) + (chunk ^ (line & 7));
  return line * (kDepth / 8) + (chunk ^ ((line >> 1) & 3));
}

// A [16, 16] piece of the left operand from (row, k) on: a[0..3] of m16n8k16.
template <bool ACROSS, int ROWS>
__device__ inline void load_left(uint32_t (&a)[4], const Quad* tile, int row, int k) {
  const int lane = threadIdx.x % 32, half = lane / 8 % 2, other = lane / 16, within = lane % 8;
  if (ACROSS)
    load_matrix_x4_transposed(a, tile + chunk_at<true, ROWS>(k + other * 8 + within, row / 8 + half));
  else
    load_matrix_x4(a, tile + chunk_at<false, ROWS>(row + half * 8 + within, k / 8 + other));
}

// A [16, 16] piece of the right operand from (row, k) on: b[0..1] of its first eight rows, b[2..3] of the others.
template <bool ACROSS, int ROWS>
__device__ inline void load_right(uint32_t (&b)[4], const Quad* tile, int row, int k) {
  const int lane = threadIdx.x % 32, half = lane / 8 % 2, other = lane / 16, within = lane % 8;
  if (ACROSS)
    load_matrix_x4_transposed(b, tile + chunk_at<true, ROWS>(k + half * 8 + within, row / 8 + other));
  else
    load_matrix_x4(b, tile + chunk_at<false, ROWS>(row + other * 8 + within, k / 8 + half));
}

}  // namespace cuda
}  // namespace cambium

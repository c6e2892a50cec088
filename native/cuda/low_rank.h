// The low-rank deltas of linear as a second part of its product. All deltas of all adapters lie beside each other as
// columns: those of delta d begin at d.at, [T, rank] of them and, with a bias, T more whose input is 1; each delta is
// padded to whole 8 columns. A row has zeros in the columns of every adapter but its own, so one product serves samples
// with different adapters.
#pragma once
#include "cuda/checked.h"
#include "cuda/gemm.h"

namespace cambium {
namespace cuda {

constexpr int kMostDeltas = 16;  // of one linear

struct Delta {
  const float *a, *b, *bias, *scale;
  const void* x;
  int64_t rank, column, out, at, first;  // first: of its columns in `between`
};

struct Deltas {
  int32_t count, type;                         // type: of x and of every operand made here
  int64_t m, in, out, adapters, width, ranks;  // width: all columns; ranks: those of `between`
  const int32_t* adapter;                      // [m] or null: 0
  Delta at[kMostDeltas];
};

// The columns of a linear's deltas, and the adapter of every row.
int deltas_of(CbContext* context, const linear_args& f, Deltas* deltas);

// Operands of the product, [rows, width] or [width, in], in scratch memory.
int forward_rows(CbContext* context, const linear_args& f, const Deltas& d, float* between,
                 Operand* rows);                                                    // scale · (x Aᵀ | 1)
int backward_rows(CbContext* context, const Deltas& d, Operand dz, Operand* rows);  // scale · dz B
int up_operand(CbContext* context, const Deltas& d, bool across, Operand* up);      // (B | bias)
int down_operand(CbContext* context, const Deltas& d, bool across, Operand* down);  // A of those that read x

// dA, dB, dbias and dx of every delta, from the rows of backward and what forward kept.
int delta_gradients(CbContext* context, const linear_grads& g, const Deltas& d, Operand rows, Operand dz);

}  // namespace cuda
}  // namespace cambium

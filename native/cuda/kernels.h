// Declares the CUDA side of every op. One file per op defines it; table.cu collects them into a Backend.
#pragma once
#include "ops/backend.h"

namespace cambium {
namespace cuda {

#define X(op)                                     \
  int op##_forward(CbContext*, const op##_args*); \
  int op##_backward(CbContext*, const op##_grads*);
CAMBIUM_OPS(X)
#undef X
#define X(op) int op(CbContext*, const op##_args*);
CAMBIUM_FORWARD_OPS(X)
#undef X

}  // namespace cuda
}  // namespace cambium

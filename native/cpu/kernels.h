// Declares the CPU kernel of every op, inside the namespace of the level a unit is compiled for. One file per op
// defines them; table.cc collects them into a Backend. Kernels use no STL and call no inline function from outside this
// namespace, so that no wide instruction can be merged into code that runs on a smaller machine.
#pragma once
#include "cpu/gemm/gemm.h"
#include "cpu/parallel.h"
#include "cpu/simd.h"
#include "ops/backend.h"

namespace cambium {
namespace CAMBIUM_LEVEL {

CAMBIUM_OPS(CB_DECLARE_OP)
CAMBIUM_FORWARD_OPS(CB_DECLARE_FORWARD_OP)

}  // namespace CAMBIUM_LEVEL
}  // namespace cambium

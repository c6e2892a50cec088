// Declares the CUDA side of every op. One file per op defines it; table.cu collects them into a Backend.
#pragma once
#include "ops/backend.h"

namespace cambium {
namespace cuda {

CAMBIUM_OPS(CB_DECLARE_OP)
CAMBIUM_FORWARD_OPS(CB_DECLARE_FORWARD_OP)

}  // namespace cuda
}  // namespace cambium

// The ops of this library as a table; see ops/backend.h.
#pragma once
#include "cuda/launch.h"
#include "ops/backend.h"

namespace cambium {
namespace cuda {

extern const Backend table;

cudaError_t kernels_fit();  // whether the library holds kernels for the GPU at hand

}  // namespace cuda
}  // namespace cambium

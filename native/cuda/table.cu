#include "cuda/table.h"

#include "cuda/kernels.h"

namespace cambium {
namespace cuda {

const Backend table = {CB_ABI_VERSION, sizeof(Backend), "cuda", "cuda", 1,
                       CAMBIUM_OPS(CB_OP_ENTRIES) CAMBIUM_FORWARD_OPS(CB_FORWARD_OP_ENTRY)};

// All kernels are compiled for the same architectures, so one tells of all.
__global__ void empty_kernel() {}

cudaError_t kernels_fit() {
  cudaFuncAttributes attributes{};
  return cudaFuncGetAttributes(&attributes, reinterpret_cast<const void*>(empty_kernel));
}

}  // namespace cuda
}  // namespace cambium

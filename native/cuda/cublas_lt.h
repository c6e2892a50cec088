// cuBLASLt, as much of it as is used: declared here, opened at run time, so that this compiles and runs without cuBLAS.
// The library is the process's; its handle may be used by all threads.
#pragma once
#include "cuda/device.h"
#include "cuda/gemm.h"

namespace cambium {
namespace cuda {

// Looks for the library: `path` if there is one, then the usual places. Says in device.products what was found.
void open_cublas(Device& device, const char* path);

// y = A Bᵀ by cuBLASLt. False when there is no library or the product has something it does not do; then nothing is queued.
bool multiply_by_cublas(CbContext* context, int32_t type, const Product& product, int* status);

}  // namespace cuda
}  // namespace cambium

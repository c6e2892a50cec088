// How host code of the CUDA backend launches kernels and checks calls. Kernels compile with nvcc, and with
// CAMBIUM_CUDA_EMULATED as C++ for the device of emulation/; nothing else in the sources differs between the two.
//
//   return CB_LAUNCH(context, (kernel<float>), grid, block, shared bytes, arguments…);
//   return CB_CHECK(context, cudaMemsetAsync(…, stream_of(context)));
// Both are a CB_ status; on failure the context's message says which call failed and why.
#pragma once
#include <cstdio>
#include <cstring>

#include "ops/abi.h"
#if defined(CAMBIUM_CUDA_EMULATED)
#include "cuda/emulation/runtime.h"
#else
#include <cuda_runtime.h>
#endif

namespace cambium {
namespace cuda {

constexpr size_t kPlainShared = size_t{48} << 10;  // bytes a kernel may have without asking

inline cudaStream_t stream_of(CbContext* context) { return static_cast<cudaStream_t>(context->stream); }

inline int check(CbContext* context, cudaError_t error, const char* call) {
  if (error == cudaSuccess) return CB_OK;
  if (context->message != nullptr && context->message[0] == 0)
    snprintf(context->message, 255, "%.120s: %s (%s)", call, cudaGetErrorString(error), cudaGetErrorName(error));
  return error == cudaErrorMemoryAllocation ? CB_OUT_OF_MEMORY : CB_DEVICE;
}

template <class... P, class... A>
int launch(CbContext* context, const char* name, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared, const A&... arguments) {
#if defined(CAMBIUM_CUDA_EMULATED)
  const std::tuple<std::decay_t<P>...> values(arguments...);
  return check(context, emulation::enqueue_launch(grid, block, shared, stream_of(context), [kernel, values] { std::apply(kernel, values); }), name);
#else
  if (shared > kPlainShared) {
    const auto* const function = reinterpret_cast<const void*>(kernel);
    if (const int status = check(context, cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize, int(shared)), name)) return status;
  }
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared;
  config.stream = stream_of(context);
  return check(context, cudaLaunchKernelEx(&config, kernel, P(arguments)...), name);
#endif
}

}  // namespace cuda
}  // namespace cambium

#define CB_LAUNCH(context, kernel, ...) ::cambium::cuda::launch(context, #kernel, kernel, __VA_ARGS__)
#define CB_CHECK(context, call) ::cambium::cuda::check(context, call, #call)

// The dynamic shared memory of a block as `type* name`, aligned to 128 bytes.
#if defined(CAMBIUM_CUDA_EMULATED)
#define CB_DYNAMIC_SHARED(type, name) type* const name = static_cast<type*>(::cambium::emulation::dynamic_shared())
#else
#define CB_DYNAMIC_SHARED(type, name)                               \
  extern __shared__ __align__(128) unsigned char cb_dynamic_shared[]; \
  type* const name = reinterpret_cast<type*>(cb_dynamic_shared)
#endif

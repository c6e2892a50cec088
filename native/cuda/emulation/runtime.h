// The part of CUDA's runtime and of its device language that our sources use, for a C++ compiler: the same .cu files run
// on the CPU, so that every kernel is tested where there is no GPU. Slow, and exact about what CUDA promises: work of a
// stream is put off until somebody waits for it, memory starts as NaN, an argument that a GPU would refuse is refused.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <tuple>
#include <type_traits>

#include "cuda/emulation/grid.h"

#define __global__
#define __device__
#define __host__
#define __constant__
#define __grid_constant__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
// One block runs at a time, so a block's memory may be static.
#define __shared__ static

struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
struct alignas(8) int2 {
  int x, y;
};
struct alignas(16) int4 {
  int x, y, z, w;
};
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
inline int2 make_int2(int x, int y) { return {x, y}; }
inline int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }

// ---- the language ------------------------------------------------------------------------------------------------
inline void __syncthreads() { cambium::emulation::block_barrier(true); }
inline int __syncthreads_count(int predicate) { return cambium::emulation::block_barrier(predicate != 0); }
inline int __syncthreads_or(int predicate) { return __syncthreads_count(predicate) != 0; }
inline void __syncwarp(uint32_t mask = 0xffffffffu) {
  cambium::emulation::warp_collective(mask, [](void* const*) {}, nullptr, true);
}
inline void __threadfence() {}
inline void __threadfence_block() {}

namespace cambium {
namespace emulation {
struct Exchange {
  uint64_t in;
  int source;  // lane to read from; its own when that is outside the warp or the mask
  uint64_t out;
};
inline void exchange(void* const* arguments) {
  for (int l = 0; l < 32; ++l) {
    auto* self = static_cast<Exchange*>(arguments[l]);
    if (self) self->out = static_cast<Exchange*>(arguments[self->source])->in;
  }
}
template <class T>
T shuffle(uint32_t mask, T x, int source) {
  static_assert(sizeof(T) <= 8, "a shuffle moves 4 or 8 bytes");
  Exchange e{0, source, 0};
  std::memcpy(&e.in, &x, sizeof x);
  warp_collective(mask, exchange, &e);
  std::memcpy(&x, &e.out, sizeof x);
  return x;
}
struct Vote {
  bool yes;
  uint32_t out;
};
inline void vote(void* const* arguments) {
  uint32_t bits = 0;
  for (int l = 0; l < 32; ++l)
    if (arguments[l]) bits |= uint32_t{static_cast<Vote*>(arguments[l])->yes} << l;
  for (int l = 0; l < 32; ++l)
    if (arguments[l]) static_cast<Vote*>(arguments[l])->out = bits;
}
}  // namespace emulation
}  // namespace cambium

template <class T>
T __shfl_sync(uint32_t mask, T x, int source, int width = 32) {
  const int self = cambium::emulation::lane();
  return cambium::emulation::shuffle(mask, x, self / width * width + source % width);
}
template <class T>
T __shfl_xor_sync(uint32_t mask, T x, int bits, int width = 32) {
  const int self = cambium::emulation::lane(), source = self ^ bits;
  return cambium::emulation::shuffle(mask, x, source / width > self / width ? self : source);
}
template <class T>
T __shfl_down_sync(uint32_t mask, T x, unsigned by, int width = 32) {
  const int self = cambium::emulation::lane(), source = self + int(by);
  return cambium::emulation::shuffle(mask, x, source / width != self / width ? self : source);
}
template <class T>
T __shfl_up_sync(uint32_t mask, T x, unsigned by, int width = 32) {
  const int self = cambium::emulation::lane(), source = self - int(by);
  return cambium::emulation::shuffle(mask, x, source < self / width * width ? self : source);
}
inline uint32_t __ballot_sync(uint32_t mask, int predicate) {
  cambium::emulation::Vote v{predicate != 0, 0};
  cambium::emulation::warp_collective(mask, cambium::emulation::vote, &v);
  return v.out;
}
inline int __any_sync(uint32_t mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
inline int __all_sync(uint32_t mask, int predicate) { return __ballot_sync(mask, !predicate) == 0; }

#define EMULATED_ATOMIC __attribute__((no_sanitize("thread")))  // what races.h leaves out
template <class T>
EMULATED_ATOMIC T atomicAdd(T* at, T x) {
  const T was = *at;
  *at = was + x;
  return was;
}
template <class T>
EMULATED_ATOMIC T atomicCAS(T* at, T expected, T x) {
  const T was = *at;
  if (was == expected) *at = x;
  return was;
}
template <class T>
EMULATED_ATOMIC T atomicExch(T* at, T x) {
  const T was = *at;
  *at = x;
  return was;
}
template <class T>
EMULATED_ATOMIC T atomicMax(T* at, T x) {
  const T was = *at;
  if (x > was) *at = x;
  return was;
}
template <class T>
EMULATED_ATOMIC T atomicOr(T* at, T x) {
  const T was = *at;
  *at = was | x;
  return was;
}

template <class T>
T __ldg(const T* at) {
  return *at;
}
inline uint32_t __float_as_uint(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  return bits;
}
inline float __uint_as_float(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, 4);
  return x;
}
inline int __float_as_int(float x) { return int(__float_as_uint(x)); }
inline float __int_as_float(int bits) { return __uint_as_float(uint32_t(bits)); }
inline float rsqrtf(float x) { return 1.f / std::sqrt(x); }
inline double rsqrt(double x) { return 1.0 / std::sqrt(x); }
inline float __expf(float x) { return expf(x); }
inline float __logf(float x) { return logf(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __frcp_rn(float x) { return 1.f / x; }
inline float __fsqrt_rn(float x) { return std::sqrt(x); }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline int __popc(uint32_t x) { return __builtin_popcount(x); }
inline int __clz(int x) { return x ? __builtin_clz(unsigned(x)) : 32; }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline uint32_t __umulhi(uint32_t a, uint32_t b) { return uint32_t(uint64_t{a} * b >> 32); }
inline long long clock64() { return 0; }
template <class T>
constexpr T min(T a, T b) {
  return b < a ? b : a;
}
template <class T>
constexpr T max(T a, T b) {
  return a < b ? b : a;
}

// ---- the runtime -------------------------------------------------------------------------------------------------
enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInvalidConfiguration = 9,
  cudaErrorInsufficientDriver = 35,
  cudaErrorNoDevice = 100,
  cudaErrorNoKernelImageForDevice = 209,
  cudaErrorNotReady = 600,
  cudaErrorMisalignedAddress = 716,
  cudaErrorLaunchFailure = 719,
  cudaErrorStreamCaptureUnsupported = 900,
  cudaErrorStreamCaptureInvalidated = 901,
  cudaErrorCapturedEvent = 907,
  cudaErrorStreamCaptureWrongThread = 908,
};
enum cudaMemcpyKind { cudaMemcpyHostToHost, cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost, cudaMemcpyDeviceToDevice, cudaMemcpyDefault };
enum cudaDeviceAttr {
  cudaDevAttrMultiProcessorCount = 16,
  cudaDevAttrComputeCapabilityMajor = 75,
  cudaDevAttrComputeCapabilityMinor = 76,
  cudaDevAttrMaxSharedMemoryPerBlockOptin = 97,
};
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };
enum cudaStreamCaptureMode { cudaStreamCaptureModeGlobal, cudaStreamCaptureModeThreadLocal, cudaStreamCaptureModeRelaxed };
enum : unsigned { cudaStreamNonBlocking = 1, cudaEventDisableTiming = 2, cudaEventBlockingSync = 1, cudaHostAllocDefault = 0 };

struct EmulatedStream;
struct EmulatedEvent;
struct EmulatedGraph;
struct EmulatedGraphExec;
using cudaStream_t = EmulatedStream*;
using cudaEvent_t = EmulatedEvent*;
using cudaGraph_t = EmulatedGraph*;
using cudaGraphExec_t = EmulatedGraphExec*;
struct cudaDeviceProp {
  char name[256];
};
struct cudaFuncAttributes {
  int numRegs;
};

const char* cudaGetErrorString(cudaError_t);
const char* cudaGetErrorName(cudaError_t);
cudaError_t cudaGetLastError();
cudaError_t cudaPeekAtLastError();
cudaError_t cudaDriverGetVersion(int*);
cudaError_t cudaRuntimeGetVersion(int*);
cudaError_t cudaGetDeviceCount(int*);
cudaError_t cudaSetDevice(int);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp*, int device);
cudaError_t cudaDeviceGetAttribute(int*, cudaDeviceAttr, int device);
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes*, const void* kernel);
cudaError_t cudaMemGetInfo(size_t* free, size_t* total);
cudaError_t cudaMalloc(void**, size_t);
cudaError_t cudaFree(void*);
cudaError_t cudaHostAlloc(void**, size_t, unsigned);
cudaError_t cudaFreeHost(void*);
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t, cudaMemcpyKind, cudaStream_t);
cudaError_t cudaMemsetAsync(void*, int, size_t, cudaStream_t);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t*, unsigned);
cudaError_t cudaStreamDestroy(cudaStream_t);
cudaError_t cudaStreamSynchronize(cudaStream_t);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t*, unsigned);
cudaError_t cudaEventCreate(cudaEvent_t*);
cudaError_t cudaEventDestroy(cudaEvent_t);
cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t);
cudaError_t cudaEventQuery(cudaEvent_t);
cudaError_t cudaEventSynchronize(cudaEvent_t);
cudaError_t cudaStreamBeginCapture(cudaStream_t, cudaStreamCaptureMode);
cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t*);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t*, cudaGraph_t, unsigned long long flags = 0);
cudaError_t cudaGraphLaunch(cudaGraphExec_t, cudaStream_t);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t);
cudaError_t cudaGraphDestroy(cudaGraph_t);

namespace cambium {
namespace emulation {
// Queues or captures a launch, as a stream does; refuses what a GPU refuses.
__attribute__((visibility("default"))) cudaError_t enqueue_launch(dim3 grid, dim3 block, size_t shared, cudaStream_t, std::function<void()> body);
}  // namespace emulation
}  // namespace cambium

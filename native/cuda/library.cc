// The library's one entry point: opens the GPU, or says in words why it cannot be used.
#include <cstdio>

#include "cuda/cublas_lt.h"
#include "cuda/device.h"
#include "cuda/table.h"

namespace cambium {
namespace cuda {
namespace {

constexpr int kLeastCapability = 80;    // bf16 tensor cores, cp.async
constexpr int kLeastDriverBranch = 580;  // what CUDA 13, which is linked in statically, runs on

// Null when there is a GPU that will do.
int look(int* capability, char* reason, size_t size) {
  int driver = 0, runtime = 0, count = 0;
  cudaRuntimeGetVersion(&runtime);
  if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0) {
    snprintf(reason, size, "no NVIDIA driver is installed");
    return CB_DEVICE;
  }
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error == cudaErrorInsufficientDriver) {
    snprintf(reason, size, "the NVIDIA driver is too old: it knows CUDA %d.%d, expected %d.%d (driver %d or newer)", driver / 1000, driver % 1000 / 10,
             runtime / 1000, runtime % 1000 / 10, kLeastDriverBranch);
    return CB_DEVICE;
  }
  if (error != cudaSuccess || count == 0) {
    snprintf(reason, size, "no NVIDIA GPU is visible (%s)", error == cudaSuccess ? "none found" : cudaGetErrorString(error));
    return CB_DEVICE;
  }
  int major = 0, minor = 0;
  cudaError_t asked = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0);
  if (asked == cudaSuccess) asked = cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, 0);
  if (asked != cudaSuccess) {
    snprintf(reason, size, "the GPU does not say what it can do: %s (%s)", cudaGetErrorString(asked), cudaGetErrorName(asked));
    return CB_DEVICE;
  }
  *capability = major * 10 + minor;
  if (*capability >= kLeastCapability) return CB_OK;
  snprintf(reason, size, "expected a GPU of compute capability 8.0 or newer, got %d.%d", major, minor);
  return CB_UNSUPPORTED;
}

// Otherwise the first kernel would tell, in the middle of some work.
int look_for_kernels(int capability, char* reason, size_t size) {
  const cudaError_t error = kernels_fit();
  if (error == cudaSuccess) return CB_OK;
  snprintf(reason, size, "expected kernels for compute capability %d.%d, got none in this library (%s); npx cambium build --cuda makes them there",
           capability / 10, capability % 10, cudaGetErrorName(error));
  return CB_UNSUPPORTED;
}

}  // namespace
}  // namespace cuda
}  // namespace cambium

extern "C" __attribute__((visibility("default"))) int cambium_cuda_open(CbDevice** out, const char* cublas, char* reason, size_t size) {
  using namespace cambium::cuda;
  *out = nullptr;
  int capability = 0;
  if (const int status = look(&capability, reason, size)) return status;
  auto* const device = new Device;
  cudaDeviceProp properties{};
  cudaError_t error = device->open();
  if (error == cudaSuccess) error = cudaGetDeviceProperties(&properties, 0);
  if (error != cudaSuccess) {
    const int status = device->fail(error, "opening the GPU");
    size_t free = 0, total = 0;
    if (status == CB_OUT_OF_MEMORY && cudaMemGetInfo(&free, &total) == cudaSuccess)
      snprintf(reason, size, "no memory on the GPU: %zu of %zu bytes are free", free, total);
    else
      snprintf(reason, size, "%s", device->message);
    delete device;
    return status;
  }
  if (const int status = look_for_kernels(capability, reason, size)) {
    delete device;
    return status;
  }
  snprintf(device->name, sizeof device->name, "%.120s (%d.%d)", properties.name, capability / 10, capability % 10);
  device->backend = &table;
  open_cublas(*device, cublas);
  *out = device;
  return CB_OK;
}

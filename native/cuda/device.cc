// The entries of CbDevice for CUDA's runtime. Every status is checked; once a device has failed, each call says so again.
#include "cuda/device.h"

#include <cstring>

namespace cambium {
namespace cuda {
namespace {

Device& of(CbDevice* device) { return *static_cast<Device*>(device); }

void* allocate(CbDevice*, size_t bytes) {
  void* data = nullptr;
  const cudaError_t error = cudaMalloc(&data, bytes);
  if (error == cudaSuccess) return data;
  cudaGetLastError();  // no memory is no failure of the device: the next call shall not report it
  return nullptr;
}

void release(CbDevice* device, void* data) {
  Device& d = of(device);
  std::lock_guard<std::mutex> guard(d.releasing);
  if (d.capturing)
    d.released.push_back(data);
  else
    free_memory(d, data);
}

// Nothing that is recorded happens before it is replayed: a copy to the host would never arrive, a mark never be reached.
int not_recorded(Device& d, const char* what) {
  snprintf(d.message, sizeof d.message, "%s: expected a captured step that waits for nothing, got one that does", what);
  return CB_UNSUPPORTED;
}

int memory(CbDevice* device, size_t* free, size_t* total) { return of(device).result(cudaMemGetInfo(free, total), "cudaMemGetInfo"); }

int upload(CbDevice* device, void* to, const void* from, size_t bytes) {
  Device& d = of(device);
  if (bytes == 0) return CB_OK;
  if (!d.capturing) return d.result(d.staging.send(to, from, bytes), "upload");
  void* kept = nullptr;
  if (cudaHostAlloc(&kept, bytes, cudaHostAllocDefault) != cudaSuccess) return CB_OUT_OF_MEMORY;
  d.capturing->kept.push_back(static_cast<char*>(kept));
  std::memcpy(kept, from, bytes);
  return d.result(cudaMemcpyAsync(to, kept, bytes, cudaMemcpyHostToDevice, d.queue()), "upload");
}

int download(CbDevice* device, void* to, const void* from, size_t bytes) {
  Device& d = of(device);
  if (bytes == 0) return CB_OK;
  if (d.capturing) return not_recorded(d, "download");
  char* const pinned = bytes <= d.small.piece() ? d.small.take() : nullptr;
  if (!pinned) return d.result(d.staging.fetch(to, from, bytes), "download");
  d.arriving.push_back({to, pinned, bytes});
  return d.result(cudaMemcpyAsync(pinned, from, bytes, cudaMemcpyDeviceToHost, d.queue()), "download");
}

int clear_fault(CbDevice* device) {
  Device& d = of(device);
  return d.result(cudaMemsetAsync(d.fault, 0, sizeof(CbFault), d.queue()), "clear_fault");
}

int mark(CbDevice* device, uint64_t* number) {
  Device& d = of(device);
  if (d.capturing) return not_recorded(d, "mark");
  Mark m{d.next_mark, nullptr, d.faults.take(), {}};
  if (!m.fault) return d.fail(cudaErrorMemoryAllocation, "cudaHostAlloc");
  cudaError_t error = cudaSuccess;
  if (d.events.empty()) {
    error = cudaEventCreateWithFlags(&m.event, cudaEventDisableTiming | cudaEventBlockingSync);
  } else {
    m.event = d.events.back();
    d.events.pop_back();
  }
  if (error == cudaSuccess) error = cudaMemcpyAsync(m.fault, d.fault, sizeof(CbFault), cudaMemcpyDeviceToHost, d.queue());
  if (error == cudaSuccess) error = cudaEventRecord(m.event, d.queue());
  if (error != cudaSuccess) {
    if (m.event) d.events.push_back(m.event);
    d.faults.give(m.fault);
    return d.fail(error, "mark");
  }
  m.arrivals.swap(d.arriving);
  *number = d.next_mark++;
  d.marks.push_back(std::move(m));
  return CB_OK;
}

int reached(CbDevice* device, uint64_t number, int wait, CbFault* fault) {
  Device& d = of(device);
  std::memset(fault, 0, sizeof *fault);
  while (!d.marks.empty() && d.marks.front().number <= number) {
    Mark& m = d.marks.front();
    const cudaError_t error = wait ? cudaEventSynchronize(m.event) : cudaEventQuery(m.event);
    if (error == cudaErrorNotReady) return 0;
    for (const Arrival& arrival : m.arrivals) {
      if (error == cudaSuccess) std::memcpy(arrival.to, arrival.pinned, arrival.bytes);
      d.small.give(arrival.pinned);
    }
    std::memcpy(fault, m.fault, sizeof *fault);
    d.faults.give(m.fault);
    d.events.push_back(m.event);
    d.marks.pop_front();
    if (error != cudaSuccess) {
      std::memset(fault, 0, sizeof *fault);
      d.fail(error, "device");
      return -1;
    }
  }
  return 1;
}

void close(CbDevice* device) { delete &of(device); }

}  // namespace

// From any thread: `message` is the stream's. A device that fails here has lost what it held, and says so at the next mark.
void free_memory(Device& device, void* data) {
  if (cudaStreamSynchronize(device.queue()) != cudaSuccess || cudaFree(data) != cudaSuccess) cudaGetLastError();
}

Device::Device() : CbDevice{} {
  version = CB_ABI_VERSION;
  size = sizeof(CbDevice);
  CbDevice::allocate = cuda::allocate;
  CbDevice::release = cuda::release;
  CbDevice::memory = cuda::memory;
  CbDevice::upload = cuda::upload;
  CbDevice::download = cuda::download;
  CbDevice::clear_fault = cuda::clear_fault;
  CbDevice::mark = cuda::mark;
  CbDevice::reached = cuda::reached;
  CbDevice::close = cuda::close;
  bind_graphs(*this);
}

Device::~Device() {
  if (!stream) return;
  cudaStreamSynchronize(queue());
  for (const Mark& m : marks) events.push_back(m.event);
  for (cudaEvent_t event : events) cudaEventDestroy(event);
  if (CbDevice::fault) cudaFree(CbDevice::fault);
  cudaStreamDestroy(queue());
}

int Device::fail(cudaError_t error, const char* what) {
  snprintf(message, sizeof message, "%s: %s (%s)", what, cudaGetErrorString(error), cudaGetErrorName(error));
  return error == cudaErrorMemoryAllocation ? CB_OUT_OF_MEMORY : CB_DEVICE;
}

cudaError_t Device::open() {
  cudaStream_t created = nullptr;
  if (const cudaError_t error = cudaStreamCreateWithFlags(&created, cudaStreamNonBlocking)) return error;
  stream = created;
  if (const cudaError_t error = staging.open(created)) return error;
  void* data = nullptr;
  if (const cudaError_t error = cudaMalloc(&data, sizeof(CbFault))) return error;
  CbDevice::fault = static_cast<CbFault*>(data);
  return cudaMemsetAsync(data, 0, sizeof(CbFault), created);
}

}  // namespace cuda
}  // namespace cambium

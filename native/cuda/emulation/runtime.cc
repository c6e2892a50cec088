#include "cuda/emulation/runtime.h"

#include <cstdio>
#include <cstdlib>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

#include "cuda/emulation/races.h"

using Work = std::function<cudaError_t()>;

struct EmulatedStream {
  std::deque<Work> queue;
  bool capturing = false, invalid = false;
  cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal;
  std::thread::id by;  // who began the capture
  std::vector<Work> captured;
};
struct EmulatedEvent {
  std::shared_ptr<bool> passed;  // null: recorded nowhere
  EmulatedStream* stream = nullptr;
  bool captured = false;  // what was recorded last is a node of a graph, and never passes
};
struct EmulatedGraph {
  std::vector<Work> work;
};
struct EmulatedGraphExec {
  std::shared_ptr<std::vector<Work>> work;
};

namespace {

// What tests choose: a device of some size and age, or none, or one that is lost on the way.
long setting(const char* name, long otherwise) {
  const char* const text = std::getenv(name);
  return text ? std::atol(text) : otherwise;
}

std::recursive_mutex lock;
std::map<const char*, size_t> device_memory, pinned_memory;
std::set<EmulatedStream*> streams;
size_t taken = 0;
cudaError_t sticky = cudaSuccess;  // a context that failed answers everything with that
thread_local cudaError_t last = cudaSuccess;

size_t capacity() { return size_t(setting("CAMBIUM_EMULATION_MEMORY", 8L << 30)); }

cudaError_t told(cudaError_t error) {
  if (error == cudaSuccess) error = sticky;
  if (error != cudaSuccess && error != cudaErrorNotReady) last = error;
  return error;
}

bool within(const std::map<const char*, size_t>& memory, const void* at, size_t bytes) {
  const char* const from = static_cast<const char*>(at);
  auto it = memory.upper_bound(from);
  if (it == memory.begin()) return false;
  --it;
  return from + bytes <= it->first + it->second;
}

cudaError_t lose(const char* why) {
  std::fprintf(stderr, "emulated device: %s\n", why);
  return sticky = cudaErrorLaunchFailure;
}

// Runs what was put off; a stream stops at the first failure, as a GPU's context does.
cudaError_t drain(EmulatedStream* stream) {
  while (!stream->queue.empty()) {
    const Work work = std::move(stream->queue.front());
    stream->queue.pop_front();
    if (sticky == cudaSuccess) work();
  }
  return sticky;
}

cudaError_t put_off(EmulatedStream* stream, Work work) {
  if (!stream || sticky != cudaSuccess) return told(stream ? sticky : cudaErrorInvalidValue);
  if (stream->capturing)
    stream->captured.push_back(std::move(work));
  else
    stream->queue.push_back(std::move(work));
  return cudaSuccess;
}

cudaError_t no_capture(EmulatedStream* stream) {
  if (!stream->capturing) return cudaSuccess;
  stream->invalid = true;
  return cudaErrorStreamCaptureUnsupported;
}

// A call that a capture does not see and that could break it (memory taken or given back, an event asked for): forbidden while
// any thread captures globally or this one captures, unless relaxed.
cudaError_t no_strict_capture() {
  for (EmulatedStream* stream : streams) {
    const bool own = stream->mode == cudaStreamCaptureModeThreadLocal && stream->by == std::this_thread::get_id();
    if (stream->capturing && (own || stream->mode == cudaStreamCaptureModeGlobal)) return no_capture(stream);
  }
  return cudaSuccess;
}

cudaError_t no_captured(EmulatedEvent* event) {
  if (!event->captured) return no_strict_capture();
  if (event->stream->capturing) event->stream->invalid = true;
  return cudaErrorCapturedEvent;
}

// Bytes of shared memory that a block may have, by the programming guide's table of compute capabilities.
size_t most_shared() {
  const long capability = setting("CAMBIUM_EMULATION_CAPABILITY", 90);
  const bool small = capability == 86 || capability == 89 || capability >= 120;
  return size_t(small ? 99 : capability < 90 ? 163 : 227) << 10;
}

}  // namespace

namespace cambium {
namespace emulation {

#if defined(CAMBIUM_CUDA_RACES)
bool races_in_device_memory(const void* at) { return within(device_memory, at, 1); }
#endif

cudaError_t enqueue_launch(dim3 grid, dim3 block, size_t shared, cudaStream_t stream, std::function<void()> body) {
  std::lock_guard<std::recursive_mutex> guard(lock);
  const uint64_t threads = uint64_t{block.x} * block.y * block.z;
  const bool good = grid.x > 0 && grid.y > 0 && grid.z > 0 && grid.x <= 0x7fffffffu && grid.y <= 65535 && grid.z <= 65535 && threads > 0 &&
                    threads <= 1024 && block.z <= 64 && shared <= most_shared();
  if (!good) return told(cudaErrorInvalidConfiguration);
  return put_off(stream, [=]() -> cudaError_t {
    static long launches = 0;
    if (const long lost = setting("CAMBIUM_EMULATION_LOSE", 0)) {
      if (++launches >= lost) return lose("lost, as CAMBIUM_EMULATION_LOSE asks");
    }
    const char* const wrong = run_grid(grid, block, shared, body);
    return wrong ? lose(wrong) : cudaSuccess;
  });
}

}  // namespace emulation
}  // namespace cambium

const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
    case cudaSuccess: return "cudaSuccess";
    case cudaErrorMemoryAllocation: return "cudaErrorMemoryAllocation";
    case cudaErrorInvalidConfiguration: return "cudaErrorInvalidConfiguration";
    case cudaErrorInsufficientDriver: return "cudaErrorInsufficientDriver";
    case cudaErrorNoDevice: return "cudaErrorNoDevice";
    case cudaErrorNoKernelImageForDevice: return "cudaErrorNoKernelImageForDevice";
    case cudaErrorNotReady: return "cudaErrorNotReady";
    case cudaErrorMisalignedAddress: return "cudaErrorMisalignedAddress";
    case cudaErrorLaunchFailure: return "cudaErrorLaunchFailure";
    case cudaErrorStreamCaptureUnsupported: return "cudaErrorStreamCaptureUnsupported";
    case cudaErrorStreamCaptureInvalidated: return "cudaErrorStreamCaptureInvalidated";
    case cudaErrorCapturedEvent: return "cudaErrorCapturedEvent";
    case cudaErrorStreamCaptureWrongThread: return "cudaErrorStreamCaptureWrongThread";
    default: return "cudaErrorInvalidValue";
  }
}
const char* cudaGetErrorString(cudaError_t error) { return cudaGetErrorName(error); }
cudaError_t cudaGetLastError() {
  const cudaError_t error = last;
  last = sticky;
  return error;
}
cudaError_t cudaPeekAtLastError() { return last; }

cudaError_t cudaDriverGetVersion(int* version) {
  *version = int(setting("CAMBIUM_EMULATION_DRIVER", 13000));
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = 13000;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceCount(int* count) {
  int driver = 0;
  cudaDriverGetVersion(&driver);
  *count = int(setting("CAMBIUM_EMULATION_DEVICES", 1));
  if (driver < 13000) return told(cudaErrorInsufficientDriver);
  return *count > 0 ? cudaSuccess : told(cudaErrorNoDevice);
}
cudaError_t cudaSetDevice(int) { return told(cudaSuccess); }
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* out, int) {
  std::snprintf(out->name, sizeof out->name, "emulated device");
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* out, cudaDeviceAttr attribute, int) {
  const long capability = setting("CAMBIUM_EMULATION_CAPABILITY", 90);
  switch (attribute) {
    case cudaDevAttrMultiProcessorCount: *out = 4; break;
    case cudaDevAttrComputeCapabilityMajor: *out = int(capability / 10); break;
    case cudaDevAttrComputeCapabilityMinor: *out = int(capability % 10); break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *out = int(most_shared()); break;
  }
  return cudaSuccess;
}

// CAMBIUM_EMULATION_KERNELS: the compute capability that the kernels were made for, if it is another
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* out, const void*) {
  *out = {};
  const long capability = setting("CAMBIUM_EMULATION_CAPABILITY", 90);
  return told(setting("CAMBIUM_EMULATION_KERNELS", capability) == capability ? cudaSuccess : cudaErrorNoKernelImageForDevice);
}

cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  std::lock_guard<std::recursive_mutex> guard(lock);
  *total = capacity();
  *free = *total > taken ? *total - taken : 0;
  return told(cudaSuccess);
}
cudaError_t cudaMalloc(void** out, size_t bytes) {
  std::lock_guard<std::recursive_mutex> guard(lock);
  *out = nullptr;
  if (sticky != cudaSuccess) return told(sticky);
  if (const cudaError_t error = no_strict_capture()) return told(error);
  if (taken + bytes > capacity() || posix_memalign(out, 512, bytes ? bytes : 1) != 0) return told(cudaErrorMemoryAllocation);
  std::memset(*out, 0xff, bytes);
  device_memory[static_cast<char*>(*out)] = bytes;
  taken += bytes;
  return cudaSuccess;
}
cudaError_t cudaFree(void* data) {
  std::lock_guard<std::recursive_mutex> guard(lock);
  if (!data) return cudaSuccess;
  if (const cudaError_t error = no_strict_capture()) return told(error);
  auto it = device_memory.find(static_cast<char*>(data));
  if (it == device_memory.end()) return told(cudaErrorInvalidValue);
  taken -= it->second;
  device_memory.erase(it);
  std::free(data);
  return told(cudaSuccess);
}
cudaError_t cudaHostAlloc(void** out, size_t bytes, unsigned) {
  std::lock_guard<std::recursive_mutex> guard(lock);
  if (const cudaError_t error = no_strict_capture()) return told(error);
  if (posix_memalign(out, 512, bytes ? bytes : 1) != 0) return told(cudaErrorMemoryAllocation);
  pinned_memory[static_cast<char*>(*out)] = bytes;
  return told(cudaSuccess);
}
cudaError_t cudaFreeHost(void* data) {
  std::lock_guard<std::recursive_mutex> guard(lock);
  if (const cudaError_t error = no_strict_capture()) return told(error);
  if (pinned_memory.erase(static_cast<char*>(data))) std::free(data);
  return told(cudaSuccess);
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  std::lock_guard<std::recursive_mutex> guard(lock);
  const bool reads_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  const bool writes_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  if (reads_device != within(device_memory, from, bytes) || writes_device != within(device_memory, to, bytes)) return told(cudaErrorInvalidValue);
  const void* const host = reads_device ? to : from;
  if (kind != cudaMemcpyDeviceToDevice && !within(pinned_memory, host, bytes)) {
    // Memory that is not pinned is staged: read or written before the call returns.
    if (const cudaError_t error = no_capture(stream)) return told(error);
    if (const cudaError_t error = drain(stream)) return told(error);
    std::memcpy(to, from, bytes);
    return cudaSuccess;
  }
  return put_off(stream, [=] {
    std::memmove(to, from, bytes);
    return cudaSuccess;
  });
}
cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream) {
  std::lock_guard<std::recursive_mutex> guard(lock);
  if (!within(device_memory, to, bytes)) return told(cudaErrorInvalidValue);
  return put_off(stream, [=] {
    std::memset(to, value, bytes);
    return cudaSuccess;
  });
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* out, unsigned) {
  std::lock_guard<std::recursive_mutex> guard(lock);
  streams.insert(*out = new EmulatedStream);
  return told(cudaSuccess);
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  std::lock_guard<std::recursive_mutex> guard(lock);
  drain(stream);
  streams.erase(stream);
  delete stream;
  return told(cudaSuccess);
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  std::lock_guard<std::recursive_mutex> guard(lock);
  if (const cudaError_t error = no_capture(stream)) return told(error);
  return told(drain(stream));
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* out, unsigned) {
  *out = new EmulatedEvent;
  return told(cudaSuccess);
}
cudaError_t cudaEventCreate(cudaEvent_t* out) { return cudaEventCreateWithFlags(out, 0); }
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  std::lock_guard<std::recursive_mutex> guard(lock);
  event->passed = std::make_shared<bool>(false);
  event->stream = stream;
  event->captured = stream->capturing;
  return put_off(stream, [passed = event->passed] {
    *passed = true;
    return cudaSuccess;
  });
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  std::lock_guard<std::recursive_mutex> guard(lock);
  if (sticky != cudaSuccess) return told(sticky);
  if (const cudaError_t error = no_captured(event)) return told(error);
  if (!event->passed || *event->passed) return cudaSuccess;
  // Time passes by being asked for: some pieces of work a call.
  for (int pieces = 0; pieces < 32 && !*event->passed && !event->stream->queue.empty() && sticky == cudaSuccess; ++pieces) {
    const Work work = std::move(event->stream->queue.front());
    event->stream->queue.pop_front();
    work();
  }
  return sticky != cudaSuccess ? told(sticky) : *event->passed ? cudaSuccess : cudaErrorNotReady;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  std::lock_guard<std::recursive_mutex> guard(lock);
  if (const cudaError_t error = no_captured(event)) return told(error);
  while (event->passed && !*event->passed && !event->stream->queue.empty() && sticky == cudaSuccess) {
    const Work work = std::move(event->stream->queue.front());
    event->stream->queue.pop_front();
    work();
  }
  return told(cudaSuccess);
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  std::lock_guard<std::recursive_mutex> guard(lock);
  if (stream->capturing) return told(cudaErrorStreamCaptureUnsupported);
  stream->capturing = true;
  stream->invalid = false;
  stream->mode = mode;
  stream->by = std::this_thread::get_id();
  stream->captured.clear();
  return told(cudaSuccess);
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* out) {
  std::lock_guard<std::recursive_mutex> guard(lock);
  *out = nullptr;
  if (!stream->capturing) return told(cudaErrorInvalidValue);
  if (stream->mode != cudaStreamCaptureModeRelaxed && stream->by != std::this_thread::get_id()) return told(cudaErrorStreamCaptureWrongThread);
  stream->capturing = false;
  if (stream->invalid) return told(cudaErrorStreamCaptureInvalidated);
  *out = new EmulatedGraph{std::move(stream->captured)};
  return told(cudaSuccess);
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* out, cudaGraph_t graph, unsigned long long) {
  *out = new EmulatedGraphExec{std::make_shared<std::vector<Work>>(graph->work)};
  return told(cudaSuccess);
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream) {
  std::lock_guard<std::recursive_mutex> guard(lock);
  return put_off(stream, [work = graph->work] {
    for (const Work& one : *work)
      if (sticky == cudaSuccess) one();
    return sticky;
  });
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph) {
  delete graph;
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}

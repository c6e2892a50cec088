#include <cstring>

#include "cuda/device.h"

namespace cambium {
namespace cuda {

Staging::~Staging() {
  for (cudaEvent_t event : sent_)
    if (event) cudaEventDestroy(event);
  if (data_) cudaFreeHost(data_);
}

cudaError_t Staging::open(cudaStream_t stream) {
  stream_ = stream;
  void* data = nullptr;
  if (const cudaError_t error = cudaHostAlloc(&data, 2 * kHalf, cudaHostAllocDefault)) return error;
  data_ = static_cast<char*>(data);
  for (cudaEvent_t& event : sent_)
    if (const cudaError_t error = cudaEventCreateWithFlags(&event, cudaEventDisableTiming)) return error;
  return cudaSuccess;
}

cudaError_t Staging::turn() {
  if (const cudaError_t error = cudaEventRecord(sent_[half_], stream_)) return error;
  half_ = 1 - half_;
  used_ = 0;
  return cudaEventSynchronize(sent_[half_]);
}

cudaError_t Staging::send(void* to, const void* from, size_t bytes) {
  for (size_t done = 0; done < bytes;) {
    if (used_ == kHalf)
      if (const cudaError_t error = turn()) return error;
    const size_t part = bytes - done < kHalf - used_ ? bytes - done : kHalf - used_;
    char* const at = data_ + static_cast<size_t>(half_) * kHalf + used_;
    std::memcpy(at, static_cast<const char*>(from) + done, part);
    if (const cudaError_t error = cudaMemcpyAsync(static_cast<char*>(to) + done, at, part, cudaMemcpyHostToDevice, stream_)) return error;
    used_ += (part + 63) / 64 * 64;
    done += part;
  }
  return cudaSuccess;
}

cudaError_t Staging::fetch(void* to, const void* from, size_t bytes) {
  if (const cudaError_t error = cudaStreamSynchronize(stream_)) return error;  // both halves are free now
  half_ = 0;
  used_ = 0;
  for (size_t done = 0; done < bytes; done += 2 * kHalf) {
    const size_t part = bytes - done < 2 * kHalf ? bytes - done : 2 * kHalf;
    if (const cudaError_t error = cudaMemcpyAsync(data_, static_cast<const char*>(from) + done, part, cudaMemcpyDeviceToHost, stream_)) return error;
    if (const cudaError_t error = cudaStreamSynchronize(stream_)) return error;
    std::memcpy(static_cast<char*>(to) + done, data_, part);
  }
  return cudaSuccess;
}

PinnedPieces::~PinnedPieces() {
  for (char* piece : all_) cudaFreeHost(piece);
}

char* PinnedPieces::take() {
  if (unused_.empty()) {
    void* data = nullptr;
    if (cudaHostAlloc(&data, piece_, cudaHostAllocDefault) != cudaSuccess) return nullptr;
    all_.push_back(static_cast<char*>(data));
    return all_.back();
  }
  char* const piece = unused_.back();
  unused_.pop_back();
  return piece;
}

}  // namespace cuda
}  // namespace cambium

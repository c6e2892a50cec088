// One queue of one GPU with what it owns: stream, staging memory, marks, captured steps.
#pragma once
#include <deque>
#include <memory>
#include <mutex>
#include <vector>

#include "cuda/launch.h"
#include "ops/device.h"

namespace cambium {
namespace cuda {

// Pinned host memory through which bytes travel, a ring of two halves: one is filled while the other is on its way.
class Staging {
 public:
  ~Staging();
  cudaError_t open(cudaStream_t stream);
  cudaError_t send(void* to, const void* from, size_t bytes);
  cudaError_t fetch(void* to, const void* from, size_t bytes);  // waits

 private:
  static constexpr size_t kHalf = size_t{8} << 20;
  cudaError_t turn();  // to the other half, when what it held has arrived
  cudaStream_t stream_ = nullptr;
  char* data_ = nullptr;
  cudaEvent_t sent_[2] = {};
  int half_ = 0;
  size_t used_ = 0;
};

// Small results on their way to the host: written to `to` when their mark is reached.
struct Arrival {
  void* to;
  char* pinned;
  size_t bytes;
};

struct Mark {
  uint64_t number;
  cudaEvent_t event;
  char* fault;  // pinned
  std::vector<Arrival> arrivals;
};

// Equal pieces of pinned memory, taken and given back.
class PinnedPieces {
 public:
  explicit PinnedPieces(size_t piece) : piece_(piece) {}
  ~PinnedPieces();
  char* take();  // null: no memory
  void give(char* piece) { unused_.push_back(piece); }
  size_t piece() const { return piece_; }

 private:
  size_t piece_;
  std::vector<char*> all_, unused_;
};

struct Device : CbDevice {
  Device();
  ~Device();
  cudaError_t open();
  int fail(cudaError_t error, const char* what);  // the status; fills `message`
  int result(cudaError_t error, const char* what) { return error == cudaSuccess ? CB_OK : fail(error, what); }
  cudaStream_t queue() const { return static_cast<cudaStream_t>(stream); }

  Staging staging;
  PinnedPieces small{size_t{256} << 10}, faults{256};
  std::vector<Arrival> arriving;  // since the last mark
  std::deque<Mark> marks;
  std::vector<cudaEvent_t> events;  // unused ones
  uint64_t next_mark = 1;
  // Whoever waits for a queue that is being recorded spoils the recording: memory released meanwhile goes when it has ended.
  std::mutex releasing;
  CbGraph* capturing = nullptr;  // of the stream's thread, which writes it under that lock
  std::vector<void*> released;
};

void free_memory(Device& device, void* data);  // waits for the queue

void bind_graphs(Device& device);  // fills in the entries of graph.cc

}  // namespace cuda
}  // namespace cambium

// A captured step and the host bytes that it uploads each time.
struct CbGraph {
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t ready = nullptr;
  std::vector<char*> kept;  // pinned
};

// One in-order queue and one thread per device and Node environment. JavaScript enqueues and goes on; the thread runs
// the tasks one after the other.
//
// A task's failure is sticky: what was queued behind it is skipped until somebody waits and is told. Tasks queued with
// `always` (frees, fences) run even then.
#pragma once
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

#include "ops/abi.h"

namespace cambium {

struct Failure {
  std::string code, message;
  uint64_t number = 0;  // counts the failures of a stream
  explicit operator bool() const { return !code.empty(); }
};

class Stream {
 public:
  // grew: told the scratch's size whenever it changes, on the stream's thread
  explicit Stream(std::function<void(size_t)> grew);
  ~Stream() { stop(); }

  void stop();  // runs nothing more but frees; waits for the task that is running
  void enqueue(const char* op, std::function<int(CbContext*)> task);
  void always(std::function<void(const Failure&)> task);  // told the failure so far, and not what follows
  void drain();            // blocks until the queue is empty
  // The failure of this number has been reported; a later one stays.
  void clear_failure(uint64_t number);

 private:
  struct Task {
    const char* op;
    std::function<int(CbContext*)> run;
    std::function<void(const Failure&)> always;
  };
  void loop();
  void* scratch(size_t bytes);

  std::function<void(size_t)> grew_;
  std::mutex mutex_;
  std::condition_variable wake_, idle_;
  std::deque<Task> queue_;
  bool stopping_ = false, running_ = false;
  Failure failure_;
  uint64_t failures_ = 0;
  std::deque<std::pair<void*, size_t>> arena_;  // blocks of scratch; merged into one when the next entry starts
  size_t arena_used_ = 0;
  std::thread thread_;
};

}  // namespace cambium

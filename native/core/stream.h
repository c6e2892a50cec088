// One in-order queue and one thread per device and Node environment. JavaScript enqueues and goes on; the thread runs
// the tasks one after the other.
//
// A task's failure is sticky: what was queued behind it is skipped until somebody waits and is told. Tasks queued with
// `always` (frees, fences) run even then.
//
// On a device the thread only hands work over: a task is done when it is in the device's queue, and what `always` waits for is
// a mark in that queue. So a failure there is met late; what was handed over meanwhile has run on.
#pragma once
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

#include "core/memory.h"
#include "ops/device.h"

namespace cambium {

struct Failure {
  std::string code, message;
  uint64_t number = 0;  // counts the failures of a stream
  explicit operator bool() const { return !code.empty(); }
};

class Stream {
 public:
  // device: null for the CPU. grew: told the scratch's size whenever it changes, on the stream's thread
  Stream(CbDevice* device, const SegmentSource& memory, std::function<void(size_t)> grew);
  ~Stream() { stop(); }

  void stop();  // runs nothing more but frees; waits for the task that is running
  void enqueue(const char* op, std::function<int(CbContext*)> task);
  void always(std::function<void(const Failure&)> task);  // told the failure so far, and not what follows
  // Runs in its turn whatever has failed, with the failure so far, and without a mark on the device.
  void in_turn(std::function<void(const Failure&)> task);
  // Inside a task: what the entries from here on use as scratch; returns what they used until now. `keep`: no block of it is given
  // back before the next swap.
  using Arena = std::deque<std::pair<void*, size_t>>;
  Arena swap_scratch(Arena arena, bool keep);
  void give_back(Arena arena);
  void reach_all();  // waits for the device; inside a task
  void drain();            // blocks until all of it has run
  // Once the queue gets here, the failure of this number, which has been reported, stands no more; a later one stays.
  void forget(uint64_t number);

 private:
  struct Task {
    const char* op;
    std::function<int(CbContext*)> run;
    std::function<void(const Failure&)> always;
    uint64_t forgotten = 0;  // a failure to forget
    std::function<void(const Failure&)> in_turn = nullptr;
  };
  // A callback that waits for its mark on the device.
  struct Pending {
    uint64_t mark;
    std::function<void(const Failure&)> told;
  };
  void loop();
  void run(Task& task, Failure* failure, CbContext* context);
  void mark(std::function<void(const Failure&)> told);
  bool reach(bool wait);  // tells the first that is pending; false when its mark is not reached yet
  void failed(const char* op, int status, const char* why);
  void clear_failure(uint64_t number);
  Failure standing();
  void* scratch(size_t bytes);
  void settle_scratch();
  void* take_block(size_t bytes);

  CbDevice* const device_;
  const SegmentSource memory_;
  std::function<void(size_t)> grew_;
  std::mutex mutex_;
  std::condition_variable wake_, idle_;
  std::deque<Task> queue_;
  std::deque<Pending> pending_;  // of the stream's thread
  bool stopping_ = false, running_ = false;
  Failure failure_;
  uint64_t failures_ = 0;
  Arena arena_;  // blocks of scratch; merged into one when the next entry starts
  size_t arena_at_ = 0, arena_used_ = 0;  // the block that is handed out from, and its bytes in use
  size_t held_ = 0;                       // bytes of all scratch, that of captures too
  bool keep_arena_ = false;
  size_t waiting_ = 0;  // pending_.size(), under the lock
  std::thread thread_;
};

}  // namespace cambium

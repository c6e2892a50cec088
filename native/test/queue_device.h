// A device whose queue another thread runs, later, as a GPU does: what is handed over must live until then, marks are reached
// late, and it may be lost. It knows copies, fills and sums of f32 tensors; ThreadSanitizer sees who touches what.
#pragma once
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "cpu/backend.h"

namespace cambium {

class QueueDevice : public CbDevice {
 public:
  QueueDevice() : CbDevice{}, table_(*cpu_backend()), thread_([this] { loop(); }) {
    version = CB_ABI_VERSION, size = sizeof(CbDevice), backend = &table_, stream = this;
    std::snprintf(name, sizeof name, "queue");
    table_.copy = [](CbContext* c, const copy_args* a) { return of(c).put_off([a = *a] { std::memcpy(a.y, a.x, size_t(a.bytes)); }); };
    table_.fill = [](CbContext* c, const fill_args* a) { return of(c).put_off([a = *a] { std::memset(a.y, a.value, size_t(a.bytes)); }); };
    table_.add_forward = [](CbContext* c, const add_args* a) {
      return of(c).put_off([a = *a] {
        for (int64_t i = 0; i < a.count; ++i) static_cast<float*>(a.y)[i] = static_cast<const float*>(a.a)[i] + static_cast<const float*>(a.b)[i];
      });
    };
    allocate = [](CbDevice*, size_t bytes) { return std::malloc(bytes); };
    release = [](CbDevice* d, void* data) { of(d).wait(), std::free(data); };
    memory = [](CbDevice*, size_t* free, size_t* total) { return *free = *total = 1 << 30, int(CB_OK); };
    upload = [](CbDevice* d, void* to, const void* from, size_t bytes) {
      const auto* const at = static_cast<const char*>(from);
      return of(d).put_off([to, kept = std::vector<char>(at, at + bytes)] { std::memcpy(to, kept.data(), kept.size()); });
    };
    download = [](CbDevice* d, void* to, const void* from, size_t bytes) { return of(d).put_off([=] { std::memcpy(to, from, bytes); }); };
    clear_fault = [](CbDevice*) { return int(CB_OK); };
    mark = [](CbDevice* d, uint64_t* number) { return *number = ++of(d).marks_, of(d).put_off([] {}, *number); };
    reached = [](CbDevice* d, uint64_t number, int wait, CbFault* fault) { return of(d).look(number, wait, fault); };
    close = [](CbDevice* d) { delete &of(d); };
  }
  ~QueueDevice() {
    {
      std::lock_guard<std::mutex> guard(mutex_);
      closing_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }
  void lose() {
    std::lock_guard<std::mutex> guard(mutex_);
    lost_ = true;
    changed_.notify_all();
  }

 private:
  struct Work {
    std::function<void()> run;
    uint64_t mark;
  };
  static QueueDevice& of(CbDevice* d) { return *static_cast<QueueDevice*>(d); }
  static QueueDevice& of(CbContext* c) { return *static_cast<QueueDevice*>(c->stream); }

  int put_off(std::function<void()> run, uint64_t mark = 0) {
    std::lock_guard<std::mutex> guard(mutex_);
    if (lost_) return CB_DEVICE;
    queue_.push_back({std::move(run), mark});
    changed_.notify_all();
    return CB_OK;
  }
  int look(uint64_t number, int wait, CbFault* fault) {
    std::memset(fault, 0, sizeof *fault);
    std::unique_lock<std::mutex> lock(mutex_);
    if (wait) changed_.wait(lock, [&] { return lost_ || done_ >= number; });
    if (done_ >= number) return 1;
    if (!lost_) return 0;
    std::snprintf(message, sizeof message, "lost");
    return -1;
  }
  void wait() {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this] { return lost_ || (queue_.empty() && !running_); });
  }
  void loop() {
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      changed_.wait(lock, [this] { return closing_ || lost_ || !queue_.empty(); });
      if (lost_) queue_.clear(), changed_.wait(lock, [this] { return closing_; });
      if (queue_.empty()) return;
      const Work work = std::move(queue_.front());
      queue_.pop_front();
      running_ = true;
      lock.unlock();
      work.run();
      lock.lock();
      running_ = false;
      if (work.mark) done_ = work.mark;
      changed_.notify_all();
    }
  }

  Backend table_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Work> queue_;
  uint64_t marks_ = 0, done_ = 0;  // marks_: of the stream's thread
  bool closing_ = false, lost_ = false, running_ = false;
  std::thread thread_;
};

}  // namespace cambium

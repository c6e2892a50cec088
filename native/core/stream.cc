#include "core/stream.h"

#include <cstdio>
#include <cstdlib>

namespace cambium {
namespace {

struct Context : CbContext {
  std::function<void*(size_t)> get;
  char text[256] = {};
};

const char* code_of(int status) {
  switch (status) {
    case CB_OUT_OF_MEMORY: return "E_OUT_OF_MEMORY";
    case CB_INDEX: return "E_INDEX";
    case CB_UNSUPPORTED: return "E_UNSUPPORTED";
    default: return "E_DEVICE";
  }
}

}  // namespace

Stream::Stream(std::function<void(size_t)> grew) : grew_(std::move(grew)), thread_([this] { loop(); }) {}

void Stream::stop() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
  for (Task& task : queue_)
    if (task.always) task.always(failure_);
  queue_.clear();
  for (auto& [data, bytes] : arena_) std::free(data);
  arena_.clear();
}

void Stream::enqueue(const char* op, std::function<int(CbContext*)> task) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    queue_.push_back({op, std::move(task), nullptr});
  }
  wake_.notify_one();
}

void Stream::always(std::function<void(const Failure&)> task) {
  std::unique_lock<std::mutex> lock(mutex_);
  if (stopping_ && !thread_.joinable()) {  // the thread is gone and with it every reader
    lock.unlock();
    return task(failure_);
  }
  queue_.push_back({"", nullptr, std::move(task)});
  lock.unlock();
  wake_.notify_one();
}

void Stream::drain() {
  std::unique_lock<std::mutex> lock(mutex_);
  idle_.wait(lock, [this] { return (queue_.empty() && !running_) || stopping_; });
}

void Stream::clear_failure(uint64_t number) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (failure_.number == number) failure_ = {};
}

// Bump allocation for one entry. A request that does not fit opens another block; before the next entry all blocks
// become one that would have fitted, so the scratch settles at its peak.
void* Stream::scratch(size_t bytes) {
  bytes = (bytes + 63) / 64 * 64;
  if (arena_.empty() || arena_used_ + bytes > arena_.back().second) {
    void* data = nullptr;
    if (posix_memalign(&data, 64, bytes) != 0) return nullptr;
    arena_.emplace_back(data, bytes);
    arena_used_ = 0;
    size_t total = 0;
    for (auto& block : arena_) total += block.second;
    grew_(total);
  }
  void* out = static_cast<char*>(arena_.back().first) + arena_used_;
  arena_used_ += bytes;
  return out;
}

void Stream::loop() {
  Context context;
  context.get = [this](size_t bytes) { return scratch(bytes); };
  context.scratch = [](CbContext* self, size_t bytes) { return static_cast<Context*>(self)->get(bytes); };
  context.stream = nullptr;
  context.message = context.text;
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    wake_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
    if (stopping_) return;
    Task task = std::move(queue_.front());
    queue_.pop_front();
    running_ = true;
    const Failure failure = failure_;
    lock.unlock();
    int status = CB_OK;
    if (task.always) {
      task.always(failure);
    } else if (!failure) {
      if (arena_.size() > 1) {  // settle: one block of the whole size
        size_t total = 0;
        for (auto& [data, bytes] : arena_) total += bytes, std::free(data);
        arena_.clear();
        void* data = nullptr;
        if (posix_memalign(&data, 64, total) == 0) arena_.emplace_back(data, total);
      }
      arena_used_ = 0;
      context.text[0] = 0;
      status = task.run(&context);
    }
    const char* op = task.op;
    task = Task{};  // what it captured goes before anybody who waits is told
    lock.lock();
    running_ = false;
    if (status != CB_OK && !failure_) {
      failure_ = {code_of(status), std::string(op) + ": " + (context.text[0] ? context.text : "the kernel failed"), ++failures_};
      if (!context.text[0] && status == CB_OUT_OF_MEMORY) failure_.message = std::string(op) + ": expected free memory for scratch, got none";
    }
    if (queue_.empty()) idle_.notify_all();
  }
}

}  // namespace cambium

#include "core/stream.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>

namespace cambium {
namespace {

constexpr size_t kMostPending = 16;  // marks on the device that nobody has looked at
constexpr std::chrono::microseconds kFirstPause{10}, kLongestPause{100};  // between two looks

struct Context : CbContext {
  std::function<void*(size_t)> get;
  CbDevice* device = nullptr;
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

std::string text_of(const CbFault& fault) {
  char text[256];
  std::snprintf(text, sizeof text, "%.63s: expected values in [%lld, %lld), got %d at %lld", fault.what, static_cast<long long>(fault.low),
                static_cast<long long>(fault.high), fault.got, static_cast<long long>(fault.at));
  return text;
}

}  // namespace

Stream::Stream(CbDevice* device, const SegmentSource& memory, std::function<void(size_t)> grew)
    : device_(device), memory_(memory), grew_(std::move(grew)), thread_([this] { loop(); }) {}

void Stream::stop() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
  reach_all();
  for (Task& task : queue_)
    if (task.always) task.always(failure_);
  queue_.clear();
  for (auto& [data, bytes] : arena_) memory_.give(memory_.owner, data);
  arena_.clear();
}

void Stream::enqueue(const char* op, std::function<int(CbContext*)> task) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    queue_.push_back({op, std::move(task), nullptr, 0, nullptr});
  }
  wake_.notify_one();
}

void Stream::always(std::function<void(const Failure&)> task) {
  std::unique_lock<std::mutex> lock(mutex_);
  if (stopping_ && !thread_.joinable()) {  // the thread is gone and with it every reader
    lock.unlock();
    return task(failure_);
  }
  queue_.push_back({"", nullptr, std::move(task), 0, nullptr});
  lock.unlock();
  wake_.notify_one();
}

void Stream::in_turn(std::function<void(const Failure&)> task) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    queue_.push_back({"", nullptr, nullptr, 0, std::move(task)});
  }
  wake_.notify_one();
}

Stream::Arena Stream::swap_scratch(Arena arena, bool keep) {
  keep_arena_ = keep;
  std::swap(arena, arena_);
  arena_at_ = arena_used_ = 0;
  return arena;
}

void Stream::give_back(Arena arena) {
  for (auto& [data, bytes] : arena) held_ -= bytes, memory_.give(memory_.owner, data);
  grew_(held_);
}

void Stream::reach_all() {
  while (!pending_.empty()) reach(true);
}

void Stream::forget(uint64_t number) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    queue_.push_back({"", nullptr, nullptr, number, nullptr});
  }
  wake_.notify_one();
}

void Stream::drain() {
  std::unique_lock<std::mutex> lock(mutex_);
  idle_.wait(lock, [this] { return (queue_.empty() && !running_ && waiting_ == 0) || stopping_; });
}

void Stream::clear_failure(uint64_t number) {
  reach_all();  // marks before the fault is cleared still carry it
  std::lock_guard<std::mutex> lock(mutex_);
  if (failure_.number != number) return;
  failure_ = {};
  if (device_) device_->clear_fault(device_);
}

// Bump allocation for one entry. A request that fits into no block from the present one on opens another; before the next entry
// all blocks become one that would have fitted, so the scratch settles at its peak. Kept blocks stay as they are and are filled anew.
void* Stream::scratch(size_t bytes) {
  bytes = (bytes + 255) / 256 * 256;
  while (arena_at_ < arena_.size() && arena_used_ + bytes > arena_[arena_at_].second) ++arena_at_, arena_used_ = 0;
  if (arena_at_ == arena_.size() && !take_block(bytes)) return nullptr;
  void* out = static_cast<char*>(arena_[arena_at_].first) + arena_used_;
  arena_used_ += bytes;
  return out;
}

void* Stream::take_block(size_t bytes) {
  void* data = memory_.take(memory_.owner, bytes);
  if (!data) return nullptr;
  arena_.emplace_back(data, bytes);
  grew_(held_ += bytes);
  return data;
}

void Stream::settle_scratch() {
  arena_at_ = arena_used_ = 0;
  if (arena_.size() < 2 || keep_arena_) return;
  size_t total = 0;
  for (auto& [data, bytes] : arena_) total += bytes, memory_.give(memory_.owner, data);
  arena_.clear();
  held_ -= total;
  take_block(total);
}

Failure Stream::standing() {
  std::lock_guard<std::mutex> lock(mutex_);
  return failure_;
}

void Stream::failed(const char* op, int status, const char* why) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (failure_) return;
  const std::string start = *op ? std::string(op) + ": " : "";
  if (!*why) why = status == CB_OUT_OF_MEMORY ? "expected free memory for scratch, got none" : "the kernel failed";
  failure_ = {code_of(status), start + why, ++failures_};
}

// Puts a mark into the device's queue; `told` is called when it is reached, in order.
void Stream::mark(std::function<void(const Failure&)> told) {
  uint64_t number = 0;
  if (const int status = device_->mark(device_, &number)) {
    failed("device", status, device_->message);
    reach_all();  // keeps the order
    return told(standing());
  }
  pending_.push_back({number, std::move(told)});
  {
    std::lock_guard<std::mutex> lock(mutex_);
    waiting_ = pending_.size();
  }
  if (pending_.size() > kMostPending) reach(true);
}

bool Stream::reach(bool wait) {
  CbFault fault;
  const int state = device_->reached(device_, pending_.front().mark, wait, &fault);
  if (state == 0) return false;
  if (state < 0) failed("", CB_DEVICE, device_->message);
  if (state > 0 && fault.status != CB_OK) failed("", fault.status, text_of(fault).c_str());
  const Pending first = std::move(pending_.front());
  pending_.pop_front();
  first.told(standing());
  std::lock_guard<std::mutex> lock(mutex_);
  waiting_ = pending_.size();
  if (queue_.empty() && waiting_ == 0) idle_.notify_all();
  return true;
}

void Stream::run(Task& task, Failure* failure, CbContext* context) {
  if (task.forgotten) return clear_failure(task.forgotten);
  if (task.in_turn) return task.in_turn(*failure);
  if (task.always) return device_ ? mark(std::move(task.always)) : task.always(*failure);
  if (*failure) return;
  settle_scratch();
  context->message[0] = 0;
  if (const int status = task.run(context)) failed(task.op, status, context->message);
}

void Stream::loop() {
  Context context;
  context.get = [this](size_t bytes) { return scratch(bytes); };
  context.scratch = [](CbContext* self, size_t bytes) { return static_cast<Context*>(self)->get(bytes); };
  context.device = device_;
  context.stream = device_ ? device_->stream : nullptr;
  context.fault = device_ ? device_->fault : nullptr;
  context.tf32 = device_ ? device_->tf32 : 0;
  context.upload = [](CbContext* self, void* to, const void* from, size_t bytes) {
    CbDevice* const device = static_cast<Context*>(self)->device;
    return device->upload(device, to, from, bytes);
  };
  context.message = context.text;
  auto pause = kFirstPause;
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    wake_.wait(lock, [this] { return stopping_ || !queue_.empty() || waiting_ > 0; });
    if (stopping_) return;
    if (queue_.empty()) {  // nothing to hand over: see what the device has done, and be there for what comes meanwhile
      lock.unlock();
      const bool told = reach(false);
      if (!told) std::this_thread::sleep_for(pause);
      pause = told ? kFirstPause : std::min(2 * pause, kLongestPause);
      lock.lock();
      continue;
    }
    Task task = std::move(queue_.front());
    queue_.pop_front();
    running_ = true;
    Failure failure = failure_;
    lock.unlock();
    run(task, &failure, &context);
    task = Task{};  // what it captured goes before anybody who waits is told
    while (!pending_.empty() && reach(false)) {
    }
    lock.lock();
    running_ = false;
    if (queue_.empty() && waiting_ == 0) idle_.notify_all();
  }
}

}  // namespace cambium

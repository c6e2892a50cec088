#include "cuda/emulation/grid.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "cuda/emulation/checks.h"
#include "cuda/emulation/fibers.h"
#include "cuda/emulation/races.h"

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace cambium {
namespace emulation {
namespace {

struct Copy {
  void* to;
  const void* from;
  size_t bytes, zeros;
};

enum class State { fresh, ready, at_barrier, at_collective, ended };

struct Thread {
  State state = State::fresh;
  uint3 index{};
  Fiber* fiber = nullptr;
  bool predicate = false;
  uint32_t mask = 0;
  Collective function = nullptr;
  void* argument = nullptr;
  bool orders = false;  // the collective is a barrier for memory
  std::vector<Copy> open;               // copies not committed yet
  std::vector<std::vector<Copy>> groups;  // committed, the oldest first
};

class Block {
 public:
  const char* run(const std::function<void()>& body, std::mt19937& order, bool reverse, bool shuffle);
  Thread& current() { return *current_; }
  int count = 0;  // of predicates, at the barrier that was passed last

 private:
  void resume(Thread& thread, const std::function<void()>& body);
  bool meet(size_t first, size_t end);
  bool run_warp(const std::vector<size_t>& lanes, size_t first, size_t end, const std::function<void()>& body);
  const char* pass_barrier();

  std::vector<Thread> threads_;
  std::vector<std::unique_ptr<Fiber>> fibers_;
  std::vector<Fiber*> unused_;
  Thread* current_ = nullptr;
};

std::mutex one_launch;
Block block;
unsigned char* shared_start = nullptr;

void call_body(void* body) { (*static_cast<const std::function<void()>*>(body))(); }

void Block::resume(Thread& thread, const std::function<void()>& body) {
  if (thread.state == State::fresh) {
    if (unused_.empty()) {
      fibers_.emplace_back(new Fiber);
      unused_.push_back(fibers_.back().get());
    }
    thread.fiber = unused_.back();
    unused_.pop_back();
    thread.fiber->start(call_body, const_cast<std::function<void()>*>(&body));
  }
  thread.state = State::ready;
  current_ = &thread;
  threadIdx = thread.index;
  races_enter(int(&thread - threads_.data()));
  thread.fiber->resume();
  races_leave();
  if (!thread.fiber->ended()) return;
  thread.state = State::ended;
  unused_.push_back(thread.fiber);
}

// Runs the collectives whose lanes have all come; true when there was one.
bool Block::meet(size_t first, size_t end) {
  bool any = false;
  for (size_t i = first; i < end; ++i) {
    if (threads_[i].state != State::at_collective) continue;
    const uint32_t mask = threads_[i].mask;
    void* arguments[32] = {};
    bool complete = true;
    for (size_t l = 0; l < 32 && complete; ++l) {
      if (!(mask >> l & 1)) continue;
      complete = first + l < end && threads_[first + l].state == State::at_collective && threads_[first + l].mask == mask &&
                 threads_[first + l].function == threads_[i].function;
      if (complete) arguments[l] = threads_[first + l].argument;
    }
    if (!complete) continue;
    races_enter_warp(int(first / 32));
    threads_[i].function(arguments);
    races_leave();
    if (threads_[i].orders) races_pass_warp_barrier(int(first / 32));
    for (size_t l = 0; l < 32; ++l)
      if (mask >> l & 1) threads_[first + l].state = State::ready;
    any = true;
  }
  return any;
}

bool Block::run_warp(const std::vector<size_t>& lanes, size_t first, size_t end, const std::function<void()>& body) {
  bool any = false;
  do {
    for (const size_t lane : lanes) {
      if (first + lane >= end) continue;
      Thread& thread = threads_[first + lane];
      if (thread.state != State::fresh && thread.state != State::ready) continue;
      resume(thread, body);
      any = true;
    }
  } while (meet(first, end));
  return any;
}

const char* Block::pass_barrier() {
  int living = 0, waiting = 0, yes = 0;
  for (const Thread& thread : threads_) {
    living += thread.state != State::ended;
    waiting += thread.state == State::at_barrier;
    yes += thread.state == State::at_barrier && thread.predicate;
  }
  if (living != waiting) return "threads wait at different places: a barrier or a collective that not all of them reach";
  count = yes;
  races_pass_barrier();
  for (Thread& thread : threads_)
    if (thread.state == State::at_barrier) thread.state = State::ready;
  return nullptr;
}

const char* Block::run(const std::function<void()>& body, std::mt19937& random, bool reverse, bool shuffle) {
  const size_t size = size_t(blockDim.x) * blockDim.y * blockDim.z;
  threads_.resize(size);
  for (size_t i = 0; i < size; ++i) {
    threads_[i].state = State::fresh;
    threads_[i].index = {unsigned(i % blockDim.x), unsigned(i / blockDim.x % blockDim.y), unsigned(i / blockDim.x / blockDim.y)};
    threads_[i].open.clear(), threads_[i].groups.clear();
  }
  std::vector<size_t> lanes(32), warps((size + 31) / 32);
  std::iota(lanes.begin(), lanes.end(), 0);
  std::iota(warps.begin(), warps.end(), 0);
  if (reverse) std::reverse(lanes.begin(), lanes.end()), std::reverse(warps.begin(), warps.end());
  const char* wrong = nullptr;
  for (;;) {
    if (shuffle) std::shuffle(lanes.begin(), lanes.end(), random), std::shuffle(warps.begin(), warps.end(), random);
    bool any = false;
    for (const size_t warp : warps) any |= run_warp(lanes, warp * 32, std::min(size, warp * 32 + 32), body);
    if (std::all_of(threads_.begin(), threads_.end(), [](const Thread& t) { return t.state == State::ended; })) return nullptr;
    wrong = any ? pass_barrier() : "threads wait for each other";
    if (!wrong) continue;
    // What hangs is given up: its fibers are left behind with what they hold.
    unused_.clear();
    for (auto& fiber : fibers_) fiber.release();
    fibers_.clear();
    return wrong;
  }
}

void wait(State state) {
  block.current().state = state;
  Fiber::yield();
}

}  // namespace

const char* run_grid(dim3 grid, dim3 size, size_t shared, const std::function<void()>& body) {
  std::lock_guard<std::mutex> lock(one_launch);
  const char* const asked = std::getenv("CAMBIUM_EMULATION_ORDER");
  const std::string order = asked ? asked : "forward";
  const bool reverse = order == "reverse", shuffle = order == "shuffle";
  static std::mt19937 random(1);
  gridDim = grid, blockDim = size;
  races_begin_launch();
  std::vector<uint64_t> blocks(uint64_t{grid.x} * grid.y * grid.z);
  std::iota(blocks.begin(), blocks.end(), 0);
  if (reverse) std::reverse(blocks.begin(), blocks.end());
  if (shuffle) std::shuffle(blocks.begin(), blocks.end(), random);
  for (const uint64_t i : blocks) {
    blockIdx = {unsigned(i % grid.x), unsigned(i / grid.x % grid.y), unsigned(i / grid.x / grid.y)};
    // A block's memory is its own allocation, so that a sanitizer sees what goes beyond it.
    void* room = nullptr;
    if (posix_memalign(&room, 128, shared ? shared : 1) != 0) return "no memory";
    std::memset(room, 0xff, shared);
    shared_start = static_cast<unsigned char*>(room);
    races_begin_block(room, shared);
    const char* wrong = block.run(body, random, reverse, shuffle);
    std::free(room);
    if (!wrong) wrong = take_wrong();
    if (wrong) return wrong;
  }
  return nullptr;
}

void* dynamic_shared() { return shared_start; }

int block_barrier(bool predicate) {
  block.current().predicate = predicate;
  wait(State::at_barrier);
  return block.count;
}

void warp_collective(uint32_t mask, Collective function, void* argument, bool orders) {
  Thread& self = block.current();
  self.mask = mask;
  self.orders = orders;
  self.function = function;
  self.argument = argument;
  wait(State::at_collective);
}

int lane() {
  return int((threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)) % 32);
}

void copy_later(void* to, const void* from, size_t bytes, size_t zeros) {
  if ((reinterpret_cast<uintptr_t>(to) | reinterpret_cast<uintptr_t>(from)) % 16 != 0) say_wrong("cp.async: misaligned address");
  races_copy(to, from, bytes);
  block.current().open.push_back({to, from, bytes, zeros});
}

void commit_copies() {
  Thread& self = block.current();
  self.groups.push_back(std::move(self.open));
  self.open.clear();
}

void wait_for_copies(int groups_left) {
  Thread& self = block.current();
  while (int(self.groups.size()) > groups_left) {
    for (const Copy& copy : self.groups.front()) {
      std::memcpy(copy.to, copy.from, copy.bytes);
      std::memset(static_cast<char*>(copy.to) + copy.bytes, 0, copy.zeros);
      races_copy(copy.to, nullptr, 0);
    }
    self.groups.erase(self.groups.begin());
  }
}

}  // namespace emulation
}  // namespace cambium

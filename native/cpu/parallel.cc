// Workers are detached and live as long as the process; nothing joins them, so that no static destructor can hang or
// crash at exit. A job is published by one 64-bit word (generation, next task): a thread takes a task by
// compare-and-swap on it, so a worker that wakes late can never run a task of a job that has ended, and nobody waits for
// a worker that has not taken anything. The word is closed while the fields of the next job are written: a thread that
// read new fields together with the old word fails its exchange. Waiting is a short bounded spin, then a condition
// variable.
#include "parallel.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "cores.h"

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#include <signal.h>
#endif
#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace cambium {
namespace {

constexpr int kMostThreads = 1024;
constexpr int64_t kMostTasks = int64_t(1) << 30;
constexpr uint64_t kClosed = 0xffffffff;  // more than any number of tasks
constexpr std::chrono::microseconds kSpin(40);

inline void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

// Waits for ready() without sleeping, for a bounded time; after the first moments it offers its core to others.
template <class Ready>
bool spin_until(const Ready& ready) {
  for (int i = 0; i < 64; ++i) {
    if (ready()) return true;
    relax();
  }
  const auto end = std::chrono::steady_clock::now() + kSpin;
  do {
    for (int i = 0; i < 16; ++i) {
      if (ready()) return true;
      relax();
    }
    std::this_thread::yield();
  } while (std::chrono::steady_clock::now() < end);
  return ready();
}

// A thread that sleeps until ready() holds. The waker makes it hold first, then calls wake().
struct Sleeper {
  std::mutex mutex;
  std::condition_variable condition;
  std::atomic<bool> asleep{false};

  template <class Ready>
  void sleep_until(const Ready& ready) {
    if (spin_until(ready)) return;
    std::unique_lock<std::mutex> lock(mutex);
    asleep.store(true);
    condition.wait(lock, ready);
    asleep.store(false);
  }
  void wake() {
    if (!asleep.load()) return;
    { std::lock_guard<std::mutex> lock(mutex); }
    condition.notify_one();
  }
};

thread_local bool inside_job = false;

class Pool {
 public:
  void run(int threads, int64_t tasks, void (*body)(void*, int64_t), void* context) {
    std::lock_guard<std::mutex> one_at_a_time(entry_);
    grow(threads - 1);
    const uint64_t generation = state_.load() >> 32;
    state_.store(generation << 32 | kClosed);
    limit_.store(threads - 1, std::memory_order_release);
    body_.store(body, std::memory_order_release);
    context_.store(context, std::memory_order_release);
    tasks_.store(uint32_t(tasks), std::memory_order_release);
    done_.store(0, std::memory_order_release);
    state_.store((generation + 1) << 32);
    const int helpers = int(tasks - 1 < int64_t(workers_.size()) ? tasks - 1 : int64_t(workers_.size()));
    for (int i = 0; i < helpers && i < threads - 1; ++i) workers_[size_t(i)]->wake();
    inside_job = true;
    take_tasks();
    inside_job = false;
    caller_.sleep_until([&] { return done_.load() == uint32_t(tasks); });
  }

 private:
  void grow(int workers) {
    while (int(workers_.size()) < workers) {
      Sleeper* sleeper = new Sleeper;
      const int index = int(workers_.size());
      if (!start([this, sleeper, index] { work(*sleeper, index); })) {
        delete sleeper;  // no more threads to be had: the others do the work
        return;
      }
      workers_.push_back(sleeper);
    }
  }

  // Signals stay with the threads of the host program.
  template <class F>
  static bool start(const F& f) {
#if defined(__unix__) || defined(__APPLE__)
    sigset_t all, before;
    sigfillset(&all);
    for (const int fault : {SIGILL, SIGSEGV, SIGBUS, SIGFPE}) sigdelset(&all, fault);  // a thread's own are never another's
    pthread_sigmask(SIG_SETMASK, &all, &before);
#endif
    bool started = true;
    try {
      std::thread(f).detach();
    } catch (const std::system_error&) {
      started = false;
    }
#if defined(__unix__) || defined(__APPLE__)
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
#endif
    return started;
  }

  void work(Sleeper& sleeper, int index) {
    inside_job = true;
    uint64_t seen = 0;
    for (;;) {
      sleeper.sleep_until([&] { return (state_.load() >> 32) != seen; });
      seen = state_.load() >> 32;
      if (index < limit_.load(std::memory_order_acquire)) take_tasks();
    }
  }

  void take_tasks() {
    uint64_t state = state_.load();
    for (;;) {
      const auto body = body_.load(std::memory_order_acquire);
      void* const context = context_.load(std::memory_order_acquire);
      const uint32_t tasks = tasks_.load(std::memory_order_acquire);
      if (uint32_t(state) >= tasks) return;
      if (!state_.compare_exchange_weak(state, state + 1)) continue;
      body(context, int64_t(uint32_t(state)));
      if (done_.fetch_add(1) + 1 == tasks) caller_.wake();
      state = state_.load();
    }
  }

  std::mutex entry_;
  std::vector<Sleeper*> workers_;  // guarded by entry_; the Sleepers are never freed
  Sleeper caller_;
  alignas(64) std::atomic<uint64_t> state_{0};  // generation in the high half, next task in the low half
  alignas(64) std::atomic<uint32_t> done_{0};
  std::atomic<void (*)(void*, int64_t)> body_{nullptr};
  std::atomic<void*> context_{nullptr};
  std::atomic<uint32_t> tasks_{0};
  std::atomic<int> limit_{0};
};

// A forked child has none of the parent's threads: it starts with a pool of its own.
std::atomic<Pool*> the_pool{nullptr};

Pool& pool() {
  Pool* current = the_pool.load();
  if (current) return *current;
#if defined(__unix__) || defined(__APPLE__)
  static const int registered = pthread_atfork(nullptr, nullptr, [] { the_pool.store(nullptr); });
  (void)registered;
#endif
  Pool* fresh = new Pool;
  if (the_pool.compare_exchange_strong(current, fresh)) return *fresh;
  delete fresh;
  return *current;
}

int initial_threads() {
  if (const char* text = std::getenv("CAMBIUM_THREADS")) {
    const int n = std::atoi(text);
    if (n > 0) return n < kMostThreads ? n : kMostThreads;
  }
  return usable_cores();
}

std::atomic<int>& threads_setting() {
  static std::atomic<int> threads{initial_threads()};
  return threads;
}

}  // namespace

int thread_count() { return threads_setting().load(std::memory_order_relaxed); }

void set_thread_count(int threads) {
  threads_setting().store(threads < 1 ? 1 : threads < kMostThreads ? threads : kMostThreads);
}

void parallel_run(int64_t tasks, void (*body)(void*, int64_t), void* context) {
  const int threads = thread_count();
  if (threads <= 1 || tasks <= 1 || inside_job || tasks > kMostTasks) {
    for (int64_t i = 0; i < tasks; ++i) body(context, i);
    return;
  }
  pool().run(threads, tasks, body, context);
}

namespace {

struct Scratch {
  void* block[kScratchSlots] = {};
  size_t bytes[kScratchSlots] = {};
  ~Scratch() {
    for (void* b : block) std::free(b);
  }
};

}  // namespace

void* thread_scratch(int slot, size_t bytes) {
  thread_local Scratch scratch;
  if (bytes <= scratch.bytes[slot] && scratch.block[slot]) return scratch.block[slot];
  constexpr size_t kHugePage = size_t(2) << 20;
  const size_t alignment = bytes >= kHugePage ? kHugePage : 64;
  const size_t rounded = (bytes + alignment) / alignment * alignment;  // more than asked, a multiple, never zero
  std::free(scratch.block[slot]);
  scratch.bytes[slot] = 0;
  scratch.block[slot] = std::aligned_alloc(alignment, rounded);
  if (!scratch.block[slot]) return nullptr;
  scratch.bytes[slot] = rounded;
#if defined(__linux__)
  if (alignment == kHugePage) madvise(scratch.block[slot], rounded, MADV_HUGEPAGE);
#endif
  return scratch.block[slot];
}

}  // namespace cambium

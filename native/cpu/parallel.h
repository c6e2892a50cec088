// The process-wide pool of CPU workers. Kernels cut their work into tasks by shape alone; which thread runs a task
// never changes what it computes, so results carry the same bits for any number of threads.
#pragma once
#include <cstddef>
#include <cstdint>

namespace cambium {

// Runs body(context, i) for every i in [0, tasks), on the pool and on the calling thread; returns when all are done.
// Tasks are handed out in ascending order. Calls from several streams at once are served one after the other. A nested
// call runs inline, so does a call with one task. The body must not throw.
void parallel_run(int64_t tasks, void (*body)(void* context, int64_t i), void* context);

// Threads that share the work, the caller included. At first: CAMBIUM_THREADS, or the physical cores that the process
// may use (affinity mask, cgroup quota).
int thread_count();
void set_thread_count(int threads);  // takes effect at the next parallel_run; at least 1

// Memory private to the calling thread, 64-byte aligned, contents undefined, valid until the thread asks again for the
// same slot. Returns nullptr when the system has no memory left. Products use the slots from kGemmScratch on, so a
// kernel that calls a product keeps what it has in the slots below.
constexpr int kScratchSlots = 10, kGemmScratch = 5;
void* thread_scratch(int slot, size_t bytes);

namespace {
// Not inlined across units on purpose: each kernel unit keeps its own copy, compiled for its own level.
template <class F>
inline void parallel_for(int64_t tasks, const F& f) {
  parallel_run(tasks, [](void* context, int64_t i) { (*static_cast<const F*>(context))(i); }, const_cast<F*>(&f));
}
}  // namespace
}  // namespace cambium

// The process-wide pool of CPU workers. Kernels cut their work into tasks by shape alone; which thread runs a task never
// changes what it computes, so results carry the same bits for any number of threads.
#pragma once
#include <cstddef>
#include <cstdint>

namespace cambium {

// Runs body(context, i) for every i in [0, tasks), on the pool and on the calling thread; returns when all are done.
// Calls from several streams at once are served one after the other. A nested call runs inline.
void parallel_run(int64_t tasks, void (*body)(void* context, int64_t i), void* context);

int thread_count();
void set_thread_count(int threads);  // takes effect at the next parallel_run; at least 1

// Memory private to the calling thread, 64-byte aligned, valid until the thread asks again for the same slot (0..7).
// Returns nullptr when the system has no memory left.
void* thread_scratch(int slot, size_t bytes);

namespace {
// Not inlined across units on purpose: each kernel unit keeps its own copy, compiled for its own level.
template <class F>
inline void parallel_for(int64_t tasks, const F& f) {
  parallel_run(tasks, [](void* context, int64_t i) { (*static_cast<const F*>(context))(i); }, const_cast<F*>(&f));
}
}  // namespace
}  // namespace cambium

// Races between the threads of a launch: two of them touch the same memory, one writes, and no barrier lies between. Built with
// CAMBIUM_CUDA_RACES alone (`npm run test:sanitize -- races`), where the compiler tells of every access of a kernel
// (-fsanitize=thread, without its library). Threads of a block are ordered by __syncthreads, lanes of a warp by __syncwarp too,
// blocks by nothing before the launch has ended. What a collective reads (ldmatrix) its whole warp reads; an asynchronous copy
// writes when it is begun and when it is waited for. Atomic operations are left out.
#pragma once
#include <cstddef>

namespace cambium {
namespace emulation {

#if defined(CAMBIUM_CUDA_RACES)
void races_begin_launch();
void races_begin_block(const void* shared, size_t bytes);
void races_enter(int thread);  // what is touched from here on is this thread's
void races_enter_warp(int warp);
void races_leave();
void races_pass_barrier();
void races_pass_warp_barrier(int warp);
void races_copy(const void* to, const void* from, size_t bytes);  // by the thread that runs
bool races_in_device_memory(const void* at);  // of runtime.cc
#else
inline void races_begin_launch() {}
inline void races_begin_block(const void*, size_t) {}
inline void races_enter(int) {}
inline void races_enter_warp(int) {}
inline void races_leave() {}
inline void races_pass_barrier() {}
inline void races_pass_warp_barrier(int) {}
inline void races_copy(const void*, const void*, size_t) {}
#endif

}  // namespace emulation
}  // namespace cambium

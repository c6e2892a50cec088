// Runs the blocks of a launch one after the other, and the threads of a block as fibers that change at barriers and
// warp collectives only.
//
// What a GPU leaves open is an option here, CAMBIUM_EMULATION_ORDER=forward|reverse|shuffle: the order of blocks, of
// warps and of lanes between two barriers. A kernel that lacks a barrier gives other bits in another order. A barrier
// that not all living threads reach, or a collective whose lanes do not meet, is an error of the launch, not a hang.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}  // NOLINT: as CUDA's
};

// Of the thread that runs. Blocks run under one lock, so they need not be each thread's own.
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;

namespace cambium {
namespace emulation {

// Runs body() as every thread of the grid; `shared` bytes of dynamic shared memory, filled with NaN for every block.
// Returns null or what went wrong.
const char* run_grid(dim3 grid, dim3 block, size_t shared, const std::function<void()>& body);

void* dynamic_shared();

// __syncthreads: waits for all living threads of the block. Returns how many of them came with `predicate`.
int block_barrier(bool predicate);

// Waits until every lane of `mask` has called with the same function; it is then run once, by the last to come, with
// the lanes' arguments (null for lanes outside of the mask). `orders`: what lanes wrote before, all of them see after.
using Collective = void (*)(void* const arguments[32]);
void warp_collective(uint32_t mask, Collective function, void* argument, bool orders = false);

int lane();

// cp.async: copies that take place when their group is waited for.
void copy_later(void* to, const void* from, size_t bytes, size_t zeros);
void commit_copies();
void wait_for_copies(int groups_left);

}  // namespace emulation
}  // namespace cambium

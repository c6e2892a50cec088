// Indices read from device memory: the one kind of argument that only a kernel can check. What is wrong is written to the
// stream's CbFault, which the next wait reads; the kernel goes on without the bad element. Optimizers leave parameters
// as they are while a fault stands.
#pragma once
#include "cuda/launch.h"

namespace cambium {
namespace cuda {

// Says that `what` (a string literal, below 64 characters) holds `got` at place `at`, outside of [low, high).
__device__ inline void report_index(CbFault* fault, const char* what, int32_t got, int64_t at, int64_t low, int64_t high) {
  if (atomicCAS(&fault->status, int32_t(CB_OK), int32_t(CB_INDEX)) != CB_OK) return;
  fault->got = got;
  fault->at = at, fault->low = low, fault->high = high;
  int i = 0;
  for (; i < 63 && what[i] != 0; ++i) fault->what[i] = what[i];
  fault->what[i] = 0;
}

// True when index is in [0, limit); otherwise tells.
__device__ inline bool in_range(CbFault* fault, const char* what, int32_t index, int64_t at, int64_t limit) {
  if (index >= 0 && index < limit) return true;
  report_index(fault, what, index, at, 0, limit);
  return false;
}

__device__ inline bool faulty(const CbFault* fault) { return fault->status != CB_OK; }

}  // namespace cuda
}  // namespace cambium

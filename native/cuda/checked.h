// Checks that kernels make of indices and offsets in device memory, with the name that the message gives them.
#pragma once
#include "cuda/element.h"
#include "cuda/index.h"

namespace cambium {
namespace cuda {

struct IndexCheck {
  CbFault* fault;
  char what[40];
  // True when got is in [low, high); otherwise tells.
  __device__ bool between(int32_t got, int64_t at, int64_t low, int64_t high) const {
    if (got >= low && got < high) return true;
    report_index(fault, what, got, at, low, high);
    return false;
  }
  __device__ bool in_range(int32_t got, int64_t limit, int64_t at) const { return between(got, at, 0, limit); }

  // Rows [*first, *first + *count) of a sample; false, and told, unless offsets [samples + 1] rise from 0 to m by at
  // most `most`. Every sample must be asked for.
  __device__ bool sample(const int32_t* offsets, int64_t b, int64_t samples, int64_t m, int64_t most, int64_t* first,
                         int64_t* count) const {
    const int32_t begin = offsets[b], end = offsets[b + 1];
    if (b == 0 && !between(begin, 0, 0, 1)) return false;
    if (!between(begin, b, 0, m + 1)) return false;
    if (!between(end, b + 1, b + 1 == samples ? m : begin, smaller(m, begin + most) + 1)) return false;
    *first = begin, *count = end - begin;
    return true;
  }
};

inline IndexCheck index_check(CbContext* context, const char* what) {
  IndexCheck check{};
  check.fault = context->fault;
  for (size_t i = 0; i + 1 < sizeof check.what && what[i] != 0; ++i) check.what[i] = what[i];
  return check;
}

}  // namespace cuda
}  // namespace cambium

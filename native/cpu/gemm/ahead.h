// How a micro-kernel walks through what it is to ask for; see Ahead in gemm.h.
#pragma once
#include "../simd.h"
#include "gemm.h"

namespace cambium {
namespace CAMBIUM_LEVEL {

// Row `row` of every array.
CAMBIUM_INLINE void ask_for_row(const Ahead& ahead, int row) {
  for (int i = 0; i < ahead.arrays; ++i) {
    const char* const p = ahead.row[i] + row * ahead.stride[i];
    for (int byte = 0; byte < ahead.bytes[i]; byte += 64) __builtin_prefetch(p + byte);
  }
}

}  // namespace CAMBIUM_LEVEL
}  // namespace cambium

// Checks of indices read from device memory: the one kind of argument that only a kernel can check.
#pragma once
#include <cstdio>

#include "cpu/simd.h"
#include "ops/backend.h"

namespace cambium {
namespace CAMBIUM_LEVEL {

constexpr int64_t kScatterColumns = 64;  // columns owned by one task of a scatter

// All of index[0, count) in [0, limit); otherwise fills the message.
inline bool indices_in_range(CbContext* context, const char* what, const int32_t* index, int64_t count, int64_t limit) {
  for (int64_t i = 0; i < count; ++i) {
    if (index[i] >= 0 && index[i] < limit) continue;
    if (context->message != nullptr) {
      snprintf(context->message, 255, "%s: expected values in [0, %lld), got %d at %lld", what,
               static_cast<long long>(limit), index[i], static_cast<long long>(i));
    }
    return false;
  }
  return true;
}

}  // namespace CAMBIUM_LEVEL
}  // namespace cambium

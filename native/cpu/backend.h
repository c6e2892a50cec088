// The CPU's Backend table for the level in force (gemm.h: cpu_level), linked into the addon.
#pragma once
#include "ops/backend.h"

namespace cambium {
const Backend* cpu_backend();
}  // namespace cambium

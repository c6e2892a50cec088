// The CPU's table for the level in force.
#pragma once
#include "ops/backend.h"

namespace cambium {
const Backend* cpu_backend();
}

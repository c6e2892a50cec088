// The ops of this library as a table; see ops/backend.h.
#pragma once
#include "ops/backend.h"

namespace cambium {
namespace cuda {

extern const Backend table;

}  // namespace cuda
}  // namespace cambium

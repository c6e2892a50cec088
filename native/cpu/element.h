// Element types that kernels read and write. Plain data: included by units compiled for different instruction sets.
#pragma once
#include <cstddef>
#include <cstdint>

namespace cambium {

enum class Element : int32_t { f32 = 0, bf16 = 1 };

// static: a copy per unit, so that one compiled for a wide level is never shared
static constexpr size_t element_size(Element e) { return e == Element::f32 ? 4 : 2; }

}  // namespace cambium

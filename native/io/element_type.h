// Element types of tensors on disk (the names of safetensors) and their conversion to the types of tensors in memory.
#pragma once

#include <cstddef>
#include <cstdint>

#include "io_status.h"

namespace cambium {

enum class ElementType : int { kBool, kU8, kI8, kI16, kU16, kF16, kBF16, kI32, kU32, kF32, kI64, kU64, kF64, kUnknown };

// "F32", "BF16", … as in a safetensors header, in either case; kUnknown for any other name (also 8-bit floats).
ElementType element_type_from_name(const char* name);
const char* element_type_name(ElementType type);
size_t element_size(ElementType type);

// Converts `count` elements. `src` need not be aligned. Any type converts to F32, F64, F16 and BF16, rounded once, to
// nearest even; integers convert to I32, I64 and U8 (out of range: E_RANGE); equal types are copied. Anything else is
// E_DTYPE.
IoStatus convert_elements(const void* src, ElementType from, void* dst, ElementType to, size_t count);

// dst [cols, rows] = src [rows, cols] transposed; both hold elements of `size` bytes (1, 2, 4 or 8). No overlap.
void transpose_elements(const void* src, size_t rows, size_t cols, size_t size, void* dst);

}  // namespace cambium

// Element types of tensors; the numbers are those of the Backend table.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

#include "core/error.h"
#include "ops/abi.h"

namespace cambium {

enum class DType : int32_t { f32 = CB_F32, bf16 = CB_BF16, f16 = CB_F16, i32 = CB_I32, i64 = CB_I64, u8 = CB_U8 };

inline size_t size_of(DType type) {
  constexpr size_t sizes[] = {4, 2, 2, 4, 8, 1};
  return sizes[static_cast<int>(type)];
}
inline const char* name_of(DType type) {
  constexpr const char* names[] = {"f32", "bf16", "f16", "i32", "i64", "u8"};
  return names[static_cast<int>(type)];
}
inline DType dtype_from(const std::string& name) {
  for (int i = 0; i <= static_cast<int>(DType::u8); ++i)
    if (name == name_of(static_cast<DType>(i))) return static_cast<DType>(i);
  fail("E_DTYPE", "dtype: expected f32, bf16, f16, i32, i64 or u8, got '%s'", name.c_str());
}

}  // namespace cambium

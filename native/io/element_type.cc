#include "element_type.h"

#include <strings.h>

#include <cmath>
#include <cstring>
#include <type_traits>

namespace cambium {

namespace {

struct TypeRow {
  const char* name;
  size_t size;
};

constexpr TypeRow kTypes[] = {{"BOOL", 1}, {"U8", 1},  {"I8", 1},  {"I16", 2}, {"U16", 2}, {"F16", 2}, {"BF16", 2},
                              {"I32", 4},  {"U32", 4}, {"F32", 4}, {"I64", 8}, {"U64", 8}, {"F64", 8}};

inline uint32_t bits_of(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  return bits;
}

inline float float_of(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

struct Half {
  uint16_t bits;
};
struct BFloat {
  uint16_t bits;
};

// Subnormal halves become exact through one multiplication by 2^112; infinities and NaNs keep their payload.
inline float to_float(Half value) {
  const uint32_t sign = static_cast<uint32_t>(value.bits & 0x8000u) << 16;
  const uint32_t magnitude = static_cast<uint32_t>(value.bits & 0x7fffu) << 13;
  const uint32_t scaled = bits_of(float_of(magnitude) * 0x1p112f);
  const uint32_t result = magnitude >= 0x0f800000u ? (magnitude | 0x7f800000u) : scaled;
  return float_of(sign | result);
}

inline float to_float(BFloat value) { return float_of(static_cast<uint32_t>(value.bits) << 16); }
inline float to_float(float value) { return value; }

// To f32 with the last bit sticky ("round to odd"): a second rounding to 16 bits then equals a single one.
inline float to_sticky_float(double value) {
  const float nearest = static_cast<float>(value);
  if (static_cast<double>(nearest) == value || std::isnan(value)) return nearest;
  uint32_t bits = bits_of(nearest);
  if (std::fabs(static_cast<double>(nearest)) > std::fabs(value)) bits -= 1;
  return float_of(bits | 1u);
}

// Nearest even; halves below 2^-14 get their subnormal rounding from one addition.
inline Half half_of(float value) {
  const uint32_t bits = bits_of(value);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  const uint32_t normal = (magnitude - 0x38000000u + 0x0fffu + ((magnitude >> 13) & 1u)) >> 13;
  const uint32_t subnormal = bits_of(float_of(magnitude) + 0.5f) - 0x3f000000u;
  const uint32_t special = magnitude > 0x7f800000u ? (0x7e00u | ((magnitude >> 13) & 0x1ffu)) : 0x7c00u;
  uint32_t result = magnitude < 0x38800000u ? subnormal : normal;
  result = magnitude >= 0x477ff000u ? special : result;
  return {static_cast<uint16_t>(sign | result)};
}

inline BFloat bfloat_of(float value) {
  const uint32_t bits = bits_of(value);
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const uint32_t nan = (bits >> 16) | 0x40u;
  return {static_cast<uint16_t>((bits & 0x7fffffffu) > 0x7f800000u ? nan : rounded)};
}

// One element, rounded once. f32, f16 and bf16 pass through f32 exactly; wider types through the sticky f32.
template <class From, class To>
inline To cast_element(From value) {
  constexpr bool from_16 = std::is_same<From, Half>::value || std::is_same<From, BFloat>::value;
  if constexpr (std::is_same<To, Half>::value || std::is_same<To, BFloat>::value) {
    float narrow;
    if constexpr (from_16 || std::is_same<From, float>::value) {
      narrow = to_float(value);
    } else {
      narrow = to_sticky_float(static_cast<double>(value));
    }
    if constexpr (std::is_same<To, Half>::value) return half_of(narrow);
    if constexpr (std::is_same<To, BFloat>::value) return bfloat_of(narrow);
  } else if constexpr (from_16) {
    return static_cast<To>(to_float(value));
  } else {
    return static_cast<To>(value);
  }
}

// memcpy of one element keeps unaligned sources legal and costs nothing.
template <class From, class To>
void convert_all(const void* src, void* dst, size_t count) {
  const char* from = static_cast<const char*>(src);
  char* to = static_cast<char*>(dst);
  for (size_t i = 0; i < count; ++i) {
    From value;
    std::memcpy(&value, from + i * sizeof(From), sizeof(From));
    const To result = cast_element<From, To>(value);
    std::memcpy(to + i * sizeof(To), &result, sizeof(To));
  }
}

template <class From>
IoStatus to_real(const void* src, void* dst, ElementType to, size_t count) {
  switch (to) {
    case ElementType::kF32:
      convert_all<From, float>(src, dst, count);
      return {};
    case ElementType::kF64:
      convert_all<From, double>(src, dst, count);
      return {};
    case ElementType::kF16:
      convert_all<From, Half>(src, dst, count);
      return {};
    case ElementType::kBF16:
      convert_all<From, BFloat>(src, dst, count);
      return {};
    default:
      return IoStatus::error("E_DTYPE", std::string("convert: no conversion to ") + element_type_name(to));
  }
}

template <class From, class To>
IoStatus to_integer(const void* src, void* dst, size_t count) {
  const char* from = static_cast<const char*>(src);
  bool inside = true;
  for (size_t i = 0; i < count; ++i) {
    From value;
    std::memcpy(&value, from + i * sizeof(From), sizeof(From));
    const To result = static_cast<To>(value);
    // Equal values of equal sign: the only two ways an integer conversion can go wrong.
    inside &= static_cast<From>(result) == value && (result < To{0}) == (value < From{0});
    std::memcpy(static_cast<char*>(dst) + i * sizeof(To), &result, sizeof(To));
  }
  return inside ? IoStatus{} : IoStatus::error("E_RANGE", "convert: an integer does not fit into the smaller type");
}

template <class From>
IoStatus from_integer(const void* src, void* dst, ElementType to, size_t count) {
  switch (to) {
    case ElementType::kI32:
      return to_integer<From, int32_t>(src, dst, count);
    case ElementType::kI64:
      return to_integer<From, int64_t>(src, dst, count);
    case ElementType::kU8:
      return to_integer<From, uint8_t>(src, dst, count);
    default:
      return to_real<From>(src, dst, to, count);
  }
}

template <class Element>
void transpose_as(const void* src, size_t rows, size_t cols, void* dst) {
  constexpr size_t kTile = 32;  // 32 x 32 of 8 bytes: source and target tiles stay in L1
  const char* from = static_cast<const char*>(src);
  char* to = static_cast<char*>(dst);
  for (size_t r0 = 0; r0 < rows; r0 += kTile) {
    for (size_t c0 = 0; c0 < cols; c0 += kTile) {
      const size_t r1 = r0 + kTile < rows ? r0 + kTile : rows, c1 = c0 + kTile < cols ? c0 + kTile : cols;
      for (size_t c = c0; c < c1; ++c) {
        for (size_t r = r0; r < r1; ++r) {
          std::memcpy(to + (c * rows + r) * sizeof(Element), from + (r * cols + c) * sizeof(Element), sizeof(Element));
        }
      }
    }
  }
}

}  // namespace

ElementType element_type_from_name(const char* name) {
  for (int i = 0; i < static_cast<int>(ElementType::kUnknown); ++i) {
    if (::strcasecmp(name, kTypes[i].name) == 0) return static_cast<ElementType>(i);
  }
  return ElementType::kUnknown;
}

const char* element_type_name(ElementType type) {
  return type < ElementType::kUnknown ? kTypes[static_cast<int>(type)].name : "an unknown type";
}

size_t element_size(ElementType type) { return type < ElementType::kUnknown ? kTypes[static_cast<int>(type)].size : 0; }

IoStatus convert_elements(const void* src, ElementType from, void* dst, ElementType to, size_t count) {
  if (from >= ElementType::kUnknown || to >= ElementType::kUnknown) {
    return IoStatus::error("E_DTYPE", "convert: expected a known element type");
  }
  if (from == to) {
    if (count > 0) std::memcpy(dst, src, count * element_size(from));
    return {};
  }
  switch (from) {
    case ElementType::kBool:
    case ElementType::kU8:
      return from_integer<uint8_t>(src, dst, to, count);
    case ElementType::kI8:
      return from_integer<int8_t>(src, dst, to, count);
    case ElementType::kI16:
      return from_integer<int16_t>(src, dst, to, count);
    case ElementType::kU16:
      return from_integer<uint16_t>(src, dst, to, count);
    case ElementType::kI32:
      return from_integer<int32_t>(src, dst, to, count);
    case ElementType::kU32:
      return from_integer<uint32_t>(src, dst, to, count);
    case ElementType::kI64:
      return from_integer<int64_t>(src, dst, to, count);
    case ElementType::kU64:
      return from_integer<uint64_t>(src, dst, to, count);
    case ElementType::kF16:
      return to_real<Half>(src, dst, to, count);
    case ElementType::kBF16:
      return to_real<BFloat>(src, dst, to, count);
    case ElementType::kF32:
      return to_real<float>(src, dst, to, count);
    case ElementType::kF64:
      return to_real<double>(src, dst, to, count);
    case ElementType::kUnknown:
      break;
  }
  return IoStatus::error("E_DTYPE", "convert: expected a known element type");
}

void transpose_elements(const void* src, size_t rows, size_t cols, size_t size, void* dst) {
  switch (size) {
    case 1:
      return transpose_as<uint8_t>(src, rows, cols, dst);
    case 2:
      return transpose_as<uint16_t>(src, rows, cols, dst);
    case 4:
      return transpose_as<uint32_t>(src, rows, cols, dst);
    default:
      return transpose_as<uint64_t>(src, rows, cols, dst);
  }
}

}  // namespace cambium

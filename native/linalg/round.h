// Elements of files to doubles and back. Back means rounded once, to nearest even, from the double itself: by way of f32
// rounded to odd (Boldo and Melquiond, 2008), so that no value is rounded twice.
#pragma once
#include <cstddef>
#include <cstdint>

#include "io/element_type.h"

namespace cambium {

// F64, F32, BF16 and F16: the types that take part in arithmetic here.
bool is_foldable(ElementType type);
void to_doubles(const void* from, ElementType type, double* to, int64_t count);
// Returns how many results are NaN or infinite.
int64_t from_doubles(const double* from, ElementType type, void* to, int64_t count);
// The distance of neighbours of `type` around x.
double unit_in_last_place(double x, ElementType type);

}  // namespace cambium

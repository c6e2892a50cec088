#include "linalg/vectors.h"

namespace cambium {

CAMBIUM_CLONES double dot(const double* a, const double* b, int64_t n) {
  constexpr int64_t kLanes = 16;
  double sums[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int64_t j = 0; j < kLanes; ++j) sums[j] += a[i + j] * b[i + j];
  }
  for (int64_t j = 0; i + j < n; ++j) sums[j] += a[i + j] * b[i + j];
  for (int64_t step = kLanes / 2; step > 0; step /= 2) {
    for (int64_t j = 0; j < step; ++j) sums[j] += sums[j + step];
  }
  return sums[0];
}

CAMBIUM_CLONES void add_scaled(double* y, const double* x, int64_t n, double factor) {
  for (int64_t i = 0; i < n; ++i) y[i] += factor * x[i];
}

CAMBIUM_CLONES void scale(double* x, int64_t n, double factor) {
  for (int64_t i = 0; i < n; ++i) x[i] *= factor;
}

CAMBIUM_CLONES void rotate(double* a, double* b, int64_t n, double c, double s) {
  for (int64_t i = 0; i < n; ++i) {
    const double x = a[i], y = b[i];
    a[i] = c * x - s * y;
    b[i] = s * x + c * y;
  }
}

}  // namespace cambium

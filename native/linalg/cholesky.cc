#include "linalg/cholesky.h"

#include <cmath>
#include <vector>

#include "linalg/moments.h"
#include "linalg/vectors.h"

namespace cambium {
namespace {

constexpr int64_t kLanes = 32;   // rows that are solved together, side by side
constexpr int64_t kChunk = 1024;  // rows whose solutions are held at once
constexpr double kLogTwoPi = 1.8378770664093454836;

}  // namespace

// y [d][kLanes] holds x - mean and takes L⁻¹ of it; squares [kLanes] takes the sum of its squares.
CAMBIUM_CLONES void solve_lanes(const double* factor, int64_t d, double* y, double* squares) {
  double norm[kLanes] = {};
  for (int64_t i = 0; i < d; ++i) {
    const double* row = factor + i * (i + 1) / 2;
    double rest[kLanes];
    for (int64_t s = 0; s < kLanes; ++s) rest[s] = y[i * kLanes + s];
    for (int64_t j = 0; j < i; ++j) {
      for (int64_t s = 0; s < kLanes; ++s) rest[s] -= row[j] * y[j * kLanes + s];
    }
    for (int64_t s = 0; s < kLanes; ++s) {
      const double value = rest[s] / row[i];
      y[i * kLanes + s] = value;
      norm[s] += value * value;
    }
  }
  for (int64_t s = 0; s < kLanes; ++s) squares[s] = norm[s];
}

int64_t cholesky(double* a, int64_t d) {
  for (int64_t i = 0; i < d; ++i) {
    double* row = a + packed_size(i);
    for (int64_t j = 0; j < i; ++j) {
      const double* above = a + packed_size(j);
      row[j] = (row[j] - dot(row, above, j)) / above[j];
    }
    const double pivot = row[i] - dot(row, row, i);
    if (!(pivot > 0) || !std::isfinite(pivot)) return i;
    row[i] = std::sqrt(pivot);
  }
  return -1;
}

double log_determinant(const double* factor, int64_t d) {
  double sum = 0;
  for (int64_t i = 0; i < d; ++i) sum += std::log(factor[packed_size(i) + i]);
  return 2 * sum;
}

void log_density(const Gaussian& gaussian, const float* x, int64_t rows, double* out) {
  const int64_t d = gaussian.d;
  const double constant = static_cast<double>(d) * kLogTwoPi + gaussian.log_determinant;
  const int64_t least = rows < kChunk ? rows : kChunk;
  std::vector<double> solved(static_cast<size_t>((least + kLanes - 1) / kLanes * kLanes * d));
  for (int64_t chunk = 0; chunk < rows; chunk += kChunk) {
    const int64_t here = chunk + kChunk < rows ? kChunk : rows - chunk;
    spread((here + kLanes - 1) / kLanes, here * d * d, [&](int64_t group) {
      const int64_t first = chunk + group * kLanes, count = first + kLanes < chunk + here ? kLanes : chunk + here - first;
      double* y = solved.data() + group * kLanes * d;
      for (int64_t s = 0; s < count; ++s) {
        for (int64_t j = 0; j < d; ++j) y[j * kLanes + s] = static_cast<double>(x[(first + s) * d + j]) - gaussian.mean[j];
      }
      double squares[kLanes];
      solve_lanes(gaussian.factor, d, y, squares);
      for (int64_t s = 0; s < count; ++s) out[first + s] = -0.5 * (constant + squares[s]);
    });
  }
}

}  // namespace cambium

#include "linalg/product.h"

#include "linalg/vectors.h"

namespace cambium {
namespace {

constexpr int64_t kRows = 8, kColumns = 64;

// sums [kRows][columns] += a row by row · b, k in order
CAMBIUM_CLONES void accumulate(const float* a, int64_t a_row, int64_t a_k, const float* b, int64_t ldb, int64_t rows, int64_t k, int64_t columns, double* sums) {
  for (int64_t i = 0; i < k; ++i) {
    for (int64_t r = 0; r < rows; ++r) {
      const double factor = static_cast<double>(a[r * a_row + i * a_k]);
      double* out = sums + r * kColumns;
      for (int64_t j = 0; j < columns; ++j) out[j] += factor * static_cast<double>(b[i * ldb + j]);
    }
  }
}

}  // namespace

void product_f64(const Product& p, float* out) {
  const int64_t down = (p.m + kRows - 1) / kRows, across = (p.n + kColumns - 1) / kColumns;
  parallel_for(down * across, [&](int64_t task) {
    const int64_t row = task % down * kRows, column = task / down * kColumns;
    const int64_t rows = p.m - row < kRows ? p.m - row : kRows, columns = p.n - column < kColumns ? p.n - column : kColumns;
    double sums[kRows * kColumns] = {};
    const int64_t a_row = p.transpose_a ? 1 : p.k, a_k = p.transpose_a ? p.m : 1;
    accumulate(p.a + row * a_row, a_row, a_k, p.b + column, p.n, rows, p.k, columns, sums);
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t j = 0; j < columns; ++j) {
        const int64_t at = (row + r) * p.n + column + j;
        out[at] = static_cast<float>((p.add ? static_cast<double>(p.add[at]) : 0.0) + p.alpha * sums[r * kColumns + j]);
      }
    }
  });
}

}  // namespace cambium

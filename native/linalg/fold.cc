#include "linalg/fold.h"

#include <cmath>
#include <cstring>

#include "linalg/vectors.h"

namespace cambium {
namespace {

#if defined(__GNUC__)
typedef double Lanes __attribute__((vector_size(64), aligned(8), may_alias));
constexpr int64_t kLanes = 8;
#else
typedef double Lanes;
constexpr int64_t kLanes = 1;
#endif

inline Lanes& lanes(double* p) { return *reinterpret_cast<Lanes*>(p); }
inline const Lanes& lanes(const double* p) { return *reinterpret_cast<const Lanes*>(p); }

CAMBIUM_CLONES void add_product_of_4(double* v, const double* p, int64_t p_stride, const double* q, int64_t rank, int64_t columns) {
  double *v0 = v, *v1 = v + columns, *v2 = v + 2 * columns, *v3 = v + 3 * columns;
  const double *p0 = p, *p1 = p + p_stride, *p2 = p + 2 * p_stride, *p3 = p + 3 * p_stride;
  int64_t j = 0;
  for (; j + 2 * kLanes <= columns; j += 2 * kLanes) {
    Lanes a0 = lanes(v0 + j), b0 = lanes(v0 + j + kLanes), a1 = lanes(v1 + j), b1 = lanes(v1 + j + kLanes);
    Lanes a2 = lanes(v2 + j), b2 = lanes(v2 + j + kLanes), a3 = lanes(v3 + j), b3 = lanes(v3 + j + kLanes);
    const double* at = q + j;
    for (int64_t r = 0; r < rank; ++r, at += columns) {
      const Lanes x = lanes(at), y = lanes(at + kLanes);
      a0 += p0[r] * x, b0 += p0[r] * y, a1 += p1[r] * x, b1 += p1[r] * y;
      a2 += p2[r] * x, b2 += p2[r] * y, a3 += p3[r] * x, b3 += p3[r] * y;
    }
    lanes(v0 + j) = a0, lanes(v0 + j + kLanes) = b0, lanes(v1 + j) = a1, lanes(v1 + j + kLanes) = b1;
    lanes(v2 + j) = a2, lanes(v2 + j + kLanes) = b2, lanes(v3 + j) = a3, lanes(v3 + j + kLanes) = b3;
  }
  for (; j < columns; ++j) {
    for (int64_t r = 0; r < rank; ++r) {
      const double x = q[r * columns + j];
      v0[j] += p0[r] * x, v1[j] += p1[r] * x, v2[j] += p2[r] * x, v3[j] += p3[r] * x;
    }
  }
}

}  // namespace

void add_product(double* v, const double* p, int64_t p_stride, const double* q, int64_t rows, int64_t rank, int64_t columns) {
  if (rows == kFoldRows) return add_product_of_4(v, p, p_stride, q, rank, columns);
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t r = 0; r < rank; ++r) add_scaled(v + i * columns, q + r * columns, columns, p[i * p_stride + r]);
  }
}

namespace {

// One step on `rows` rows, the first of which is the step's row `row`.
void fold_step(const FoldStep& step, int64_t row, int64_t rows, int64_t columns, double* v, double* scratch, bool normed) {
  const bool mixed = normed && step.weight != 1;
  if (mixed) std::memcpy(scratch, v, static_cast<size_t>(rows * columns) * sizeof(double));
  if (step.low_rank) {
    add_product(v, step.p.data() + row * step.rank, step.rank, step.q.data(), rows, step.rank, columns);
  } else {
    add_scaled(v, step.p.data() + row * columns, rows * columns, 1);
  }
  for (int64_t i = 0; normed && i < rows; ++i) {
    double* x = v + i * columns;
    if (step.norm == FoldStep::kRows) {
      scale(x, columns, step.weight * step.magnitude[static_cast<size_t>(row + i)] / std::sqrt(dot(x, x, columns)));
    } else {
      for (int64_t j = 0; j < columns; ++j) x[j] *= step.weight * step.magnitude[static_cast<size_t>(j)] / step.column_norms[static_cast<size_t>(j)];
    }
    if (mixed) add_scaled(x, scratch + i * columns, columns, 1 - step.weight);
  }
}

}  // namespace

void fold_rows(const std::vector<FoldStep>& steps, size_t count, int64_t row, int64_t rows, int64_t columns, double* v, double* scratch, bool stop_before_norm) {
  for (size_t s = 0; s < count; ++s) {
    const FoldStep& step = steps[s];
    const int64_t from = row > step.first ? row : step.first, end = step.first + step.count, to = row + rows < end ? row + rows : end;
    if (from >= to) continue;
    const bool normed = step.norm != FoldStep::kNone && !(stop_before_norm && s + 1 == count);
    fold_step(step, from - step.first, to - from, columns, v + (from - row) * columns, scratch, normed);
  }
}

}  // namespace cambium

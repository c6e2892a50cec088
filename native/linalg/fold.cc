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

// v [4][columns] += p [4][rank] · q [rank][columns], the rows of q a `stride` apart. For each element the products are added in
// the order of the rank.
CAMBIUM_CLONES void add_product_of_4(double* v, const double* p, int64_t rank, const double* q, int64_t stride, int64_t columns) {
  double *v0 = v, *v1 = v + columns, *v2 = v + 2 * columns, *v3 = v + 3 * columns;
  const double *p0 = p, *p1 = p + rank, *p2 = p + 2 * rank, *p3 = p + 3 * rank;
  int64_t j = 0;
  for (; j + 2 * kLanes <= columns; j += 2 * kLanes) {
    Lanes a0 = lanes(v0 + j), b0 = lanes(v0 + j + kLanes), a1 = lanes(v1 + j), b1 = lanes(v1 + j + kLanes);
    Lanes a2 = lanes(v2 + j), b2 = lanes(v2 + j + kLanes), a3 = lanes(v3 + j), b3 = lanes(v3 + j + kLanes);
    const double* at = q + j;
    for (int64_t r = 0; r < rank; ++r, at += stride) {
      const Lanes x = lanes(at), y = lanes(at + kLanes);
      a0 += p0[r] * x, b0 += p0[r] * y, a1 += p1[r] * x, b1 += p1[r] * y;
      a2 += p2[r] * x, b2 += p2[r] * y, a3 += p3[r] * x, b3 += p3[r] * y;
    }
    lanes(v0 + j) = a0, lanes(v0 + j + kLanes) = b0, lanes(v1 + j) = a1, lanes(v1 + j + kLanes) = b1;
    lanes(v2 + j) = a2, lanes(v2 + j + kLanes) = b2, lanes(v3 + j) = a3, lanes(v3 + j + kLanes) = b3;
  }
  for (; j < columns; ++j) {
    for (int64_t r = 0; r < rank; ++r) {
      const double x = q[r * stride + j];
      v0[j] += p0[r] * x, v1[j] += p1[r] * x, v2[j] += p2[r] * x, v3[j] += p3[r] * x;
    }
  }
}

void add_product(double* v, const double* p, int64_t rank, const double* q, int64_t stride, int64_t rows, int64_t columns) {
  if (rows == kFoldRows) return add_product_of_4(v, p, rank, q, stride, columns);
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t r = 0; r < rank; ++r) add_scaled(v + i * columns, q + r * stride, columns, p[i * rank + r]);
  }
}

void rescale(const FoldStep& step, int64_t row, const FoldBlock& block) {
  for (int64_t i = 0; i < block.rows; ++i) {
    double* x = block.v + i * block.width;
    if (step.norm == FoldStep::kRows) {
      scale(x, block.width, step.weight * step.magnitude[static_cast<size_t>(row + i)] / std::sqrt(dot(x, x, block.width)));
    } else {
      for (int64_t j = 0; j < block.width; ++j) x[j] *= step.weight * step.magnitude[static_cast<size_t>(block.first + j)] / step.column_norms[static_cast<size_t>(block.first + j)];
    }
  }
}

// One step on a block all of whose rows it changes.
void fold_step(const FoldStep& step, const FoldBlock& block, int64_t columns, bool normed) {
  const bool mixed = normed && step.weight != 1;
  const int64_t row = block.row - step.first;
  if (mixed) std::memcpy(block.scratch, block.v, static_cast<size_t>(block.rows * block.width) * sizeof(double));
  if (step.low_rank) {
    add_product(block.v, step.p.data() + row * step.rank, step.rank, step.q.data() + block.first, columns, block.rows, block.width);
  } else {
    for (int64_t i = 0; i < block.rows; ++i) add_scaled(block.v + i * block.width, step.p.data() + (row + i) * columns + block.first, block.width, 1);
  }
  if (normed) rescale(step, row, block);
  if (mixed) add_scaled(block.v, block.scratch, block.rows * block.width, 1 - step.weight);
}

}  // namespace

void fold_block(const std::vector<FoldStep>& steps, size_t count, const FoldBlock& block, int64_t columns, bool stop_before_norm) {
  for (size_t s = 0; s < count; ++s) {
    const FoldStep& step = steps[s];
    const int64_t end = step.first + step.count, from = block.row > step.first ? block.row : step.first, to = block.row + block.rows < end ? block.row + block.rows : end;
    if (from >= to) continue;
    const FoldBlock part{block.v + (from - block.row) * block.width, block.scratch, from, to - from, block.first, block.width};
    fold_step(step, part, columns, step.norm != FoldStep::kNone && !(stop_before_norm && s + 1 == count));
  }
}

}  // namespace cambium

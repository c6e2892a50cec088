#include "linalg/fold_bf16.h"

#include <cmath>

#include "linalg/vectors.h"

namespace cambium {
namespace {

#if defined(__GNUC__)
typedef float Floats __attribute__((vector_size(64), aligned(4), may_alias));
typedef uint32_t Bits __attribute__((vector_size(64), aligned(4), may_alias));
typedef uint16_t Halves __attribute__((vector_size(32), aligned(2), may_alias));

struct Factors {
  const float *p, *q;
  int64_t rank;
};

// s = w + Σ p q in f32 lies within b = slack + 1.02 · 2^-24 |s| of the exact sum. Its rounding is certain when both ends of that
// interval round to the same finite bf16.
CAMBIUM_CLONES int64_t fold_rows(uint16_t* w, int64_t columns, int64_t width, const Factors* factors, int64_t count, const float* slack, int64_t* doubts) {
  int64_t found = 0;
  for (int64_t j = 0; j < width; j += Bf16Fold::kPart) {
    Floats sum[kFoldRows][2] = {};
    for (int64_t f = 0; f < count; ++f) {
      const float* q = factors[f].q + j;
      const int64_t rank = factors[f].rank;
      for (int64_t r = 0; r < rank; ++r, q += columns) {
        const Floats x = *reinterpret_cast<const Floats*>(q), y = *reinterpret_cast<const Floats*>(q + 16);
#pragma GCC unroll 4
        for (int64_t i = 0; i < kFoldRows; ++i) {
          const float p = factors[f].p[i * rank + r];
          sum[i][0] += p * x, sum[i][1] += p * y;
        }
      }
    }
    Halves result[kFoldRows][2];
    Bits doubt = {};
#pragma GCC unroll 4
    for (int64_t i = 0; i < kFoldRows; ++i) {
#pragma GCC unroll 2
      for (int64_t h = 0; h < 2; ++h) {
        const Bits wide = __builtin_convertvector(*reinterpret_cast<const Halves*>(w + i * columns + j + 16 * h), Bits) << 16;
        const Floats s = reinterpret_cast<const Floats&>(wide) + sum[i][h];
        const Bits magnitude = reinterpret_cast<const Bits&>(s) & 0x7fffffffu;
        const Floats bound = reinterpret_cast<const Floats&>(magnitude) * 0x1.06p-24f + slack[i], least = s - bound, most = s + bound;
        Bits low = reinterpret_cast<const Bits&>(least), high = reinterpret_cast<const Bits&>(most);
        low = (low + 0x7fffu + (low >> 16 & 1u)) >> 16, high = (high + 0x7fffu + (high >> 16 & 1u)) >> 16;
        // Carries into the top bits tell NaN and infinity, before and after rounding.
        doubt |= (low ^ high) | (magnitude + 0x00800000u) >> 31 | (((high & 0x7f80u) + 0x80u) & 0x8000u);
        result[i][h] = __builtin_convertvector(high, Halves);
      }
    }
    uint32_t any = 0;
    for (int64_t k = 0; k < 16; ++k) any |= doubt[k];
    if (any) {
      doubts[found++] = j;
      continue;
    }
#pragma GCC unroll 4
    for (int64_t i = 0; i < kFoldRows; ++i) {
      *reinterpret_cast<Halves*>(w + i * columns + j) = result[i][0];
      *reinterpret_cast<Halves*>(w + i * columns + j + 16) = result[i][1];
    }
  }
  return found;
}
#endif

}  // namespace

bool Bf16Fold::prepare(const std::vector<FoldStep>& steps, int64_t rows, int64_t columns) {
  steps_.clear();
  columns_ = columns;
#if defined(__GNUC__)
  for (const FoldStep& step : steps) {
    if (!step.low_rank || step.norm != FoldStep::kNone || step.first != 0 || step.count != rows) return steps_.clear(), false;
    Step own{step.rank, {step.p.begin(), step.p.end()}, {step.q.begin(), step.q.end()}, std::vector<double>(static_cast<size_t>(rows)), {}};
    for (size_t i = 0; i < step.p.size(); ++i) own.row_sums[i / static_cast<size_t>(step.rank)] += std::fabs(step.p[i]);
    own.block_largest.assign(static_cast<size_t>((columns + kColumns - 1) / kColumns), 0);
    for (size_t i = 0; i < step.q.size(); ++i) {
      double& largest = own.block_largest[i % static_cast<size_t>(columns) / static_cast<size_t>(kColumns)];
      if (!(std::fabs(step.q[i]) <= largest)) largest = std::fabs(step.q[i]);
    }
    steps_.push_back(std::move(own));
  }
#endif
  return !steps_.empty();
}

int64_t Bf16Fold::run(uint16_t* w, int64_t row, int64_t first, int64_t width, int64_t* doubts) const {
#if defined(__GNUC__)
  std::vector<Factors> factors;
  float slack[kFoldRows] = {};
  for (const Step& step : steps_) {
    factors.push_back({step.p.data() + row * step.rank, step.q.data() + first, step.rank});
    // Rounding p and q, each product's sum, and the sum over all steps: rank + 4 roundings of at most 2^-24 Σ|p||q|, with room.
    const double terms = 0x1.1p-24 * static_cast<double>(step.rank + 4 + static_cast<int64_t>(steps_.size()));
    for (int64_t i = 0; i < kFoldRows; ++i) slack[i] += static_cast<float>(terms * step.row_sums[static_cast<size_t>(row + i)] * step.block_largest[static_cast<size_t>(first / kColumns)]);
  }
  return fold_rows(w, columns_, width, factors.data(), static_cast<int64_t>(factors.size()), slack, doubts);
#else
  (void)w, (void)row, (void)first, (void)width, (void)doubts;
  return 0;
#endif
}

}  // namespace cambium

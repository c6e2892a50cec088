// Low-rank changes of a bf16 matrix at the rate of f32, with the bits that doubles give: sums run in f32 beside a bound of
// their error, and where the bound leaves a doubt how a result rounds, the caller sums again in doubles.
#pragma once
#include <cstdint>
#include <vector>

#include "linalg/fold.h"

namespace cambium {

class Bf16Fold {
 public:
  static constexpr int64_t kColumns = 512;  // of a block whose right factors stay in the first cache
  static constexpr int64_t kPart = 32;      // columns that are in doubt together
  static constexpr int64_t kParts = kColumns / kPart;

  // False, when some step has a norm, is not of low rank, or leaves rows out: nothing is kept then.
  bool prepare(const std::vector<FoldStep>& steps, int64_t rows, int64_t columns);

  // kFoldRows rows from `row` on, columns [first, first + width), width a multiple of kPart and at most kColumns: w is the
  // first element, its rows `columns` apart. Parts in doubt are left as they were; returns how many, their places in `doubts`.
  int64_t run(uint16_t* w, int64_t row, int64_t first, int64_t width, int64_t* doubts) const;

 private:
  struct Step {
    int64_t rank;
    std::vector<float> p, q;
    std::vector<double> row_sums, block_largest;  // Σ|p| of each row, max|q| of each block of columns
  };
  int64_t columns_ = 0;
  std::vector<Step> steps_;
};

}  // namespace cambium

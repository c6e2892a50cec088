// What merging does to a matrix W [rows, columns] of a checkpoint, in doubles:
//
//   each step:  D = W + scale · P Q          P [rows, R], Q [R, columns]; without Q, P [rows, columns] itself
//               W <- D                       or, with magnitudes m (DoRA, Liu et al., 2024):
//               W <- (1 - weight) W + weight · m ∘ D / ‖D‖      norms of D's rows, or of its columns
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace cambium {

struct FoldStep {
  int64_t first = 0, count = 0;  // the rows of W that it changes: P has `count` rows, and so have magnitudes of rows
  int64_t rank = 0;
  std::vector<double> p, q;  // p has the scale in it
  bool low_rank = true;      // false: p is the change itself
  enum Norm { kNone, kRows, kColumns } norm = kNone;
  std::vector<double> magnitude;  // [rows] or [columns]
  double weight = 1;
  std::vector<double> column_norms;  // [columns], once they are known
};

constexpr int64_t kFoldRows = 4;  // rows that pass through the cache together

// Columns [first, first + width) of rows of W, in doubles: v [rows][width].
struct FoldBlock {
  double* v;
  double* scratch;  // as large as v
  int64_t row, rows;  // at most kFoldRows
  int64_t first, width;
};

// Runs steps [0, count) on a block of a matrix of `columns` columns; one with norms of rows must span them all.
// `stop_before_norm`: leaves the last step's D in v.
void fold_block(const std::vector<FoldStep>& steps, size_t count, const FoldBlock& block, int64_t columns, bool stop_before_norm = false);

}  // namespace cambium

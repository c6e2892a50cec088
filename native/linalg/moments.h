// Mean and covariance of rows that come in any number of pieces, in one pass and in doubles. What is kept are sums of z = x - c
// about an origin c, the first row: rows of unit length lie close together, and the sums lose nothing by cancellation.
// Every sum takes the rows in their order, so the pieces that they come in change no bit, nor does the number of threads.
#pragma once
#include <cstdint>
#include <vector>

namespace cambium {

// Triangles are packed by rows, the lower one: element (i, j), j <= i, at i (i + 1) / 2 + j.
inline int64_t packed_size(int64_t d) { return d * (d + 1) / 2; }

// The sums as one run of doubles: N, Σ‖z‖⁴, c [D], Σz [D], Σ‖z‖²z [D], Σzzᵀ packed.
class Moments {
 public:
  static int64_t size(int64_t d) { return 2 + 3 * d + packed_size(d); }
  Moments(double* values, int64_t d) : values_(values), d_(d) {}

  // Rows [rows, D]. Moments that are all zero have seen none.
  void add(const float* x, int64_t rows);

  struct Covariance {
    double count = 0;
    std::vector<double> mean;    // [D]
    std::vector<double> packed;  // unbiased: divided by N - 1, for one row by 1
    double ledoit_wolf = 0;      // how much the estimate by Ledoit and Wolf (2004) moves towards a multiple of the identity
  };
  // At least one row must have been seen.
  Covariance covariance() const;

 private:
  double* origin() const { return values_ + 2; }
  double* sum() const { return origin() + d_; }
  double* weighted() const { return sum() + d_; }
  double* second() const { return weighted() + d_; }
  double ledoit_wolf(const std::vector<double>& offset, const std::vector<double>& unbiased) const;

  double* values_;
  int64_t d_;
};

}  // namespace cambium

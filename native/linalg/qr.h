// Householder's QR of an m x n matrix in doubles, on the pool: work is split by shape alone, so the result has the same
// bits for any number of threads. Signs are LAPACK's (geqrf): the diagonal of R may be negative.
#pragma once
#include <cstdint>
#include <vector>

namespace cambium {

class Qr {
 public:
  // `columns` [n][m]: the matrix column by column; k = min(m, n) reflectors take its place.
  Qr(std::vector<double> columns, int64_t m, int64_t n);

  int64_t rank() const { return k_; }
  // R's element; zero below the diagonal.
  double r(int64_t row, int64_t column) const;
  // x [count][m] <- Q x, vector by vector. Thin Q: apply to the first k unit vectors.
  void apply(double* x, int64_t count) const;
  // The first `count` columns of Q, [count][m].
  std::vector<double> q(int64_t count) const;

 private:
  void factor_panel(int64_t from, int64_t to);
  void reflect(double* x, int64_t j) const;

  std::vector<double> columns_;  // above the diagonal R, from it on the reflectors' vectors, which begin with 1
  std::vector<double> tau_, diagonal_;
  int64_t m_, n_, k_;
};

}  // namespace cambium

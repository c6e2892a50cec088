// Singular value decomposition in doubles.
#pragma once
#include <cstdint>
#include <vector>

namespace cambium {

struct Svd {
  int64_t rank = 0;
  std::vector<double> u, s, v;  // u [rank][m] and v [rank][n], vector by vector; s descending
};

// The first `rank` singular triples of a [m][n] (row-major), rank <= min(m, n). QR, then one-sided Jacobi on R's rows
// (Drmac and Veselic, SIAM J. Matrix Anal. Appl. 29, 2008): every singular value to a few ulps of the largest, small ones
// of a graded matrix to more; vectors orthogonal to rounding. Each u's largest entry is positive. Same bits for any number
// of threads. Returns false when an entry is not finite.
bool svd(const std::vector<double>& a, int64_t m, int64_t n, int64_t rank, Svd* out);

struct Randomized {
  uint64_t seed = 0;
  int64_t oversample = 16;  // vectors beyond `rank`
  int64_t iterations = 4;   // subspace iterations, each orthonormalised
};

// The same from a random subspace (Halko, Martinsson and Tropp, SIAM Review 53, 2011, algorithms 4.4 and 5.1): an
// approximation from below, near exact where singular values fall; O(m n rank) instead of O(m n min(m, n)).
bool svd_randomized(const std::vector<double>& a, int64_t m, int64_t n, int64_t rank, const Randomized& options, Svd* out);

}  // namespace cambium

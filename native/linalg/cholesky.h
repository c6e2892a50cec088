// Cholesky's factor of a symmetric matrix in doubles, and the density of a Gaussian by it.
#pragma once
#include <cstdint>

namespace cambium {

// a: lower triangle packed by rows (moments.h), overwritten by L of a = L Lᵀ. Returns the first row whose pivot is not
// positive, -1 when there is none.
int64_t cholesky(double* a, int64_t d);
// ln det(L Lᵀ).
double log_determinant(const double* factor, int64_t d);

struct Gaussian {
  const double *mean, *factor;  // [D]; packed
  int64_t d;
  double log_determinant;
};

// out [rows]: ln N(x; mean, L Lᵀ) of x [rows, D]: -½ (D ln 2π + ln det + ‖L⁻¹(x - mean)‖²). A row's result is a function of that row
// alone, to the bit.
void log_density(const Gaussian& gaussian, const float* x, int64_t rows, double* out);

}  // namespace cambium

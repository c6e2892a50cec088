// Matrix products for merging: f32 in, f64 sums, one rounding to f32.
#pragma once
#include <cstdint>

namespace cambium {

struct Product {
  const float *a, *b;
  const float* add = nullptr;  // [m,n] or null
  int64_t m = 0, k = 0, n = 0;
  bool transpose_a = false;  // a is [k,m]
  double alpha = 1;
};

// out [m,n] = add + alpha · a b, on the pool. `out` may not overlap the inputs.
void product_f64(const Product& p, float* out);

}  // namespace cambium

// Matrix products with f32 accumulation: y = Σ over parts of A Bᵀ, A [m, k], B [n, k], and an epilogue. A second part
// has the layouts of the first: low-rank terms ride in the sums of the product they belong to.
#pragma once
#include "cuda/epilogue.h"

namespace cambium {
namespace cuda {

// A matrix [rows, k] as memory holds it: element (r, j) at r · stride + j, or with `across` at j · stride + r.
struct Operand {
  const void* data;
  int32_t type;
  bool across;
  int64_t stride;
};

struct Part {
  Operand a, b;
  int64_t k;
};

struct Product {
  int64_t m, n;
  int32_t parts;  // 1 or 2
  bool exact;     // operands of f32 keep all their bits, whatever the context allows
  Part part[2];
  Epilogue epilogue;
};

// Operands are rounded to `type` (bf16 or f32) where they have another one.
int multiply(CbContext* context, int32_t type, const Product& product);

// The two kernels behind it. bf16 takes bf16 operands, aligned to 16 bytes, with strides of whole 8 elements; f32 takes
// any. partial: [splits, m, n] when splits > 1; the caller adds them up.
int multiply_bf16(CbContext* context, const Product& product, int splits, float* partial);
int multiply_f32(CbContext* context, const Product& product, int splits, float* partial);

// Whether the f32 product may round its operands to TF32.
inline bool by_tf32(CbContext* context, const Product& p) { return context->tf32 != 0 && !p.exact; }

// Epilogue of a plain result.
inline Epilogue plain(void* y, int32_t type, int32_t accumulate, int64_t stride) {
  Epilogue e{};
  e.y = {y, type, accumulate};
  e.stride = stride;
  return e;
}

}  // namespace cuda
}  // namespace cambium

// multiply: brings operands into the product's type and leaves the product to cuBLASLt, where that is there and does
// it, or to our own kernels: then the shape decides how the sums are split, and the splits are added up in order.
#include "cuda/cublas_lt.h"
#include "cuda/elementwise.h"
#include "cuda/gemm.h"
#include "cuda/gemm_tiles.h"

namespace cambium {
namespace cuda {
namespace {

struct Repack {
  Input from;
  uint16_t* to;
  int64_t from_stride, to_stride;
  __device__ void operator()(int64_t row, int64_t i, int n) const {
    float v[kLanes];
    from.load(row * from_stride + i, n, v);
    Output{to, CB_BF16, 0}.store(row * to_stride + i, n, v);
  }
};

// The operand as the bf16 kernel can read it: a copy where type or alignment differ.
int aligned_bf16(CbContext* context, int64_t rows, int64_t k, Operand* operand) {
  const bool ready =
      operand->type == CB_BF16 && operand->stride % kLanes == 0 && reinterpret_cast<uintptr_t>(operand->data) % 16 == 0;
  if (ready) return CB_OK;
  const int64_t lines = operand->across ? k : rows, length = operand->across ? rows : k;
  const int64_t stride = divide_up(length, kLanes) * kLanes;
  uint16_t* const copy =
      static_cast<uint16_t*>(context->scratch(context, size_t(lines * stride + kLanes) * sizeof(uint16_t)));
  if (copy == nullptr) return CB_OUT_OF_MEMORY;
  const int status =
      for_rows(context, lines, length, Repack{{operand->data, operand->type}, copy, operand->stride, stride});
  *operand = {copy, CB_BF16, operand->across, stride};
  return status;
}

struct AddSplits {
  const float* partial;
  int64_t size, n;
  int splits;
  Epilogue epilogue;
  __device__ void operator()(int64_t row, int64_t i, int count) const {
    float total[kLanes] = {}, v[kLanes];
    for (int s = 0; s < splits && !epilogue.closed(); ++s) {
      Input{partial, CB_F32}.load(s * size + row * n + i, count, v);
#pragma unroll
      for (int j = 0; j < kLanes; ++j) total[j] += v[j];
    }
    epilogue.finish(row, i, count, total);
  }
};

}  // namespace

int multiply(CbContext* context, int32_t type, const Product& product) {
  if (product.m == 0 || product.n == 0) return CB_OK;
  Product p = product;
  for (int i = 0; i < p.parts && type == CB_BF16; ++i) {
    Part& part = p.part[i];
    if (const int status = aligned_bf16(context, p.m, part.k, &part.a)) return status;
    if (const int status = aligned_bf16(context, p.n, part.k, &part.b)) return status;
  }
  int status = CB_OK;
  if (multiply_by_cublas(context, type, p, &status)) return status;
  const int splits = splits_of(p);
  float* partial = nullptr;
  if (splits > 1) {
    partial = static_cast<float*>(context->scratch(context, size_t(splits) * size_t(p.m * p.n) * sizeof(float)));
    if (partial == nullptr) return CB_OUT_OF_MEMORY;
  }
  status = (type == CB_BF16 ? multiply_bf16 : multiply_f32)(context, p, splits, partial);
  if (status != CB_OK || splits == 1) return status;
  return for_rows(context, p.m, p.n, AddSplits{partial, p.m * p.n, p.n, splits, p.epilogue});
}

}  // namespace cuda
}  // namespace cambium

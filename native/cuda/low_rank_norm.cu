// low_rank_norm: row norms of W + s B A, or their inverses; see args.h. Two small products in f32, sums in f64.
#include "cuda/gemm.h"
#include "cuda/kernels.h"
#include "cuda/reduce.h"

namespace cambium {
namespace cuda {
namespace {

__global__ void low_rank_norm_kernel(low_rank_norm_args f, int64_t rank, const float* crossed, const float* gram) {
  const int64_t row = int64_t(blockIdx.x) * kRowsPerBlock + threadIdx.x / kWarp;
  if (row >= f.m) return;
  const int lane = threadIdx.x % kWarp;
  const Input w{f.w, f.w_type};
  double total = 0;
  for (int64_t i = lane; i < f.in; i += kWarp) {
    const double x = double(w.at((f.row + row) * f.in + i));
    total += x * x;
  }
  const double s = rank > 0 ? double(*f.scale) : 0;
  const float* const b = f.b + row * rank;
  for (int64_t r = lane; r < rank; r += kWarp) {
    double quadratic = 0;
    for (int64_t q = 0; q < rank; ++q) quadratic += double(gram[r * rank + q]) * double(b[q]);
    total += s * double(b[r]) * (2 * double(crossed[row * rank + r]) + s * quadratic);
  }
  total = warp_sum(total);
  const double norm = sqrt(total > 0 ? total : 0);
  if (lane == 0) f.y[row] = float(f.inverse ? 1 / norm : norm);
}

// [rows, rank] = left · Aᵀ
int times_a(CbContext* context, const low_rank_norm_args& f, Operand left, int64_t rows, float* result) {
  Product p{};
  p.m = rows, p.n = f.rank, p.parts = 1, p.exact = true;
  p.part[0] = {left, {f.a, CB_F32, false, f.in}, f.in};
  p.epilogue = plain(result, CB_F32, 0, f.rank);
  return multiply(context, CB_F32, p);
}

}  // namespace

int low_rank_norm(CbContext* context, const low_rank_norm_args* f) {
  if (f->m == 0) return CB_OK;
  const int64_t rank = f->b != nullptr ? f->rank : 0;
  float* const crossed =
      static_cast<float*>(context->scratch(context, size_t((f->m + rank) * rank + 1) * sizeof(float)));
  if (crossed == nullptr) return CB_OUT_OF_MEMORY;
  float* const gram = crossed + f->m * rank;
  if (rank > 0) {
    const char* const rows = static_cast<const char*>(f->w) + f->row * f->in * int64_t(size_of(f->w_type));
    if (const int status = times_a(context, *f, {rows, f->w_type, false, f->in}, f->m, crossed)) return status;
    if (const int status = times_a(context, *f, {f->a, CB_F32, false, f->in}, rank, gram)) return status;
  }
  return CB_LAUNCH(context, low_rank_norm_kernel, dim3(unsigned(divide_up(f->m, kRowsPerBlock))), dim3(kThreads), 0, *f,
                   rank, static_cast<const float*>(crossed), static_cast<const float*>(gram));
}

}  // namespace cuda
}  // namespace cambium

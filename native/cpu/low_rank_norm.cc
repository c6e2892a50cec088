// low_rank_norm: row norms of W + s B A, or their inverses; see args.h. Two small products in f32, sums in f64.
#include "cpu/elementwise.h"
#include "cpu/kernels.h"

namespace cambium {
namespace CAMBIUM_LEVEL {
namespace {

// [rows, rank] = left · Aᵀ
int times_a(const low_rank_norm_args& f, MatrixView left, int64_t rows, float* result) {
  GemmCall call{};
  call.a = left;
  call.b = MatrixView{f.a, Element::f32, 1, f.in};
  call.m = rows, call.n = f.rank, call.k = f.in;
  call.c = result, call.c_type = Element::f32, call.product = Element::f32;
  return gemm_table().gemm(call) == 0 ? CB_OK : CB_OUT_OF_MEMORY;
}

}  // namespace

int low_rank_norm(CbContext* context, const low_rank_norm_args* f) {
  const int64_t in = f->in, rank = f->b != nullptr ? f->rank : 0;
  float* const crossed = static_cast<float*>(context->scratch(context, size_t((f->m + rank) * rank + 1) * sizeof(float)));
  if (crossed == nullptr) return CB_OUT_OF_MEMORY;
  float* const gram = crossed + f->m * rank;
  const int64_t first = f->row * in;
  if (rank > 0) {
    const char* const rows = static_cast<const char*>(f->w) + first * int64_t(element_size(Element(f->w_type)));
    if (const int status = times_a(*f, MatrixView{rows, Element(f->w_type), in, 1}, f->m, crossed)) return status;
    if (const int status = times_a(*f, MatrixView{f->a, Element::f32, in, 1}, rank, gram)) return status;
  }
  const Input w(f->w, f->w_type);
  const double s = rank > 0 ? double(*f->scale) : 0;
  for_rows(f->m, in, [=](int64_t row) {
    vd squares{};
    for_lanes(0, in, [&](int64_t i, int n) {
      const vf x = w.at(first + row * in + i, n);
      add_double(squares, x, x);
    });
    double total = sum_double(squares);
    const float* const b = f->b + row * rank;
    for (int64_t r = 0; r < rank; ++r) {
      double quadratic = 0;
      for (int64_t q = 0; q < rank; ++q) quadratic += double(gram[r * rank + q]) * double(b[q]);
      total += s * double(b[r]) * (2 * double(crossed[row * rank + r]) + s * quadratic);
    }
    const double norm = __builtin_sqrt(total > 0 ? total : 0);
    f->y[row] = float(f->inverse ? 1 / norm : norm);
  });
  return CB_OK;
}

}  // namespace CAMBIUM_LEVEL
}  // namespace cambium

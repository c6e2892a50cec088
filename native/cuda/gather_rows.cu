// gather_rows: y[i] = x[index[i]]. Backward adds rows in order of i.
#include "cuda/checked.h"
#include "cuda/elementwise.h"
#include "cuda/kernels.h"
#include "cuda/sorted_rows.h"

namespace cambium {
namespace cuda {
namespace {

struct Gather {
  Input x;
  const int32_t* index;
  int64_t rows, d;
  IndexCheck check;
  Output y;
  __device__ void operator()(int64_t row, int64_t i, int n) const {
    const int32_t from = index[row];
    if (!check.in_range(from, rows, row)) return;
    float v[kLanes];
    x.load(from * d + i, n, v);
    y.store(row * d + i, n, v);
  }
};

}  // namespace

int gather_rows_forward(CbContext* context, const gather_rows_args* f) {
  return for_rows(
      context, f->m, f->d,
      Gather{{f->x, f->type}, f->index, f->rows, f->d, index_check(context, "gather_rows: index"), {f->y, f->type, 0}});
}

int gather_rows_backward(CbContext* context, const gather_rows_grads* g) {
  if (g->dx == nullptr) return CB_OK;
  const gather_rows_args& f = *g->f;
  return add_rows_by_index(context, "gather_rows: index", {g->dy, f.type}, f.index, f.m, f.rows, f.d,
                           {g->dx, g->dx_type, g->dx_accumulate});
}

}  // namespace cuda
}  // namespace cambium

// gather_rows: y[i] = x[index[i]]. Backward adds rows in order of i: each task owns a range of columns, so no two tasks
// touch the same element and the order never changes.
#include "cpu/elementwise.h"
#include "cpu/index.h"
#include "cpu/kernels.h"

namespace cambium {
namespace CAMBIUM_LEVEL {

int gather_rows_forward(CbContext* context, const gather_rows_args* f) {
  const gather_rows_args c = *f;
  if (!indices_in_range(context, "gather_rows: index", c.index, c.m, c.rows)) return CB_INDEX;
  const size_t bytes = size_t(c.d) * (c.type == CB_F32 ? 4 : 2);
  for_rows(c.m, c.d, [=](int64_t row) {
    __builtin_memcpy(static_cast<char*>(c.y) + row * bytes, static_cast<const char*>(c.x) + c.index[row] * bytes,
                     bytes);
  });
  return CB_OK;
}

int gather_rows_backward(CbContext* context, const gather_rows_grads* g) {
  if (g->dx == nullptr) return CB_OK;
  const gather_rows_args c = *g->f;
  if (!indices_in_range(context, "gather_rows: index", c.index, c.m, c.rows)) return CB_INDEX;
  const Input dy(g->dy, c.type);
  const Output dx(g->dx, g->dx_type), added(g->dx, g->dx_type, true);
  if (!g->dx_accumulate) elementwise(c.rows * c.d, [=](int64_t i, int n) { dx.put(i, vf{}, n); });
  parallel_for(divide_up(c.d, kScatterColumns), [=](int64_t task) {
    const int64_t begin = task * kScatterColumns, end = smaller(c.d, begin + kScatterColumns);
    for (int64_t row = 0; row < c.m; ++row) {
      const int64_t from = row * c.d, to = c.index[row] * c.d;
      for_lanes(begin, end, [=](int64_t i, int n) { added.put(to + i, dy.at(from + i, n), n); });
    }
  });
  return CB_OK;
}

}  // namespace CAMBIUM_LEVEL
}  // namespace cambium

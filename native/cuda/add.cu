// add: y = a + b, with f32 arithmetic whatever the types.
#include "cuda/elementwise.h"
#include "cuda/kernels.h"

namespace cambium {
namespace cuda {
namespace {

struct Add {
  Input a, b;
  Output y;
  __device__ void operator()(int64_t i, int n) const {
    float x[kLanes], z[kLanes];
    a.load(i, n, x);
    b.load(i, n, z);
#pragma unroll
    for (int j = 0; j < kLanes; ++j) x[j] += z[j];
    y.store(i, n, x);
  }
};

struct Share {
  Input dy;
  Output da, db;
  __device__ void operator()(int64_t i, int n) const {
    float d[kLanes], again[kLanes];
    dy.load(i, n, d);
#pragma unroll
    for (int j = 0; j < kLanes; ++j) again[j] = d[j];
    if (da.data != nullptr) da.store(i, n, d);
    if (db.data != nullptr) db.store(i, n, again);
  }
};

}  // namespace

int add_forward(CbContext* context, const add_args* f) {
  return elementwise(context, f->count, Add{{f->a, f->a_type}, {f->b, f->b_type}, {f->y, f->y_type, 0}});
}

int add_backward(CbContext* context, const add_grads* g) {
  return elementwise(
      context, g->f->count,
      Share{{g->dy, g->dy_type}, {g->da, g->da_type, g->da_accumulate}, {g->db, g->db_type, g->db_accumulate}});
}

}  // namespace cuda
}  // namespace cambium

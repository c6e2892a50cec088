// multiply: y = a ⊙ b; da = dy ⊙ b, db = dy ⊙ a, with f32 arithmetic whatever the types.
#include "cuda/elementwise.h"
#include "cuda/kernels.h"

namespace cambium {
namespace cuda {
namespace {

struct Multiply {
  Input a, b;
  Output y;
  __device__ void operator()(int64_t i, int n) const {
    float x[kLanes], z[kLanes];
    a.load(i, n, x);
    b.load(i, n, z);
#pragma unroll
    for (int j = 0; j < kLanes; ++j) x[j] *= z[j];
    y.store(i, n, x);
  }
};

struct Share {
  Input a, b, dy;
  Output da, db;
  __device__ void operator()(int64_t i, int n) const {
    float d[kLanes], x[kLanes], z[kLanes];
    dy.load(i, n, d);
    a.load(i, n, x);
    b.load(i, n, z);
#pragma unroll
    for (int j = 0; j < kLanes; ++j) z[j] *= d[j], x[j] *= d[j];
    if (da.data != nullptr) da.store(i, n, z);
    if (db.data != nullptr) db.store(i, n, x);
  }
};

}  // namespace

int multiply_forward(CbContext* context, const multiply_args* f) {
  return elementwise(context, f->count, Multiply{{f->a, f->a_type}, {f->b, f->b_type}, {f->y, f->y_type, 0}});
}

int multiply_backward(CbContext* context, const multiply_grads* g) {
  const multiply_args& f = *g->f;
  return elementwise(context, f.count,
                     Share{{f.a, f.a_type},
                           {f.b, f.b_type},
                           {g->dy, g->dy_type},
                           {g->da, g->da_type, g->da_accumulate},
                           {g->db, g->db_type, g->db_accumulate}});
}

}  // namespace cuda
}  // namespace cambium

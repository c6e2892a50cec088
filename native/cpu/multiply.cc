// multiply: y = a ⊙ b, with f32 arithmetic whatever the types.
#include "cpu/elementwise.h"
#include "cpu/kernels.h"

namespace cambium {
namespace CAMBIUM_LEVEL {

int multiply_forward(CbContext*, const multiply_args* f) {
  const Input a(f->a, f->a_type), b(f->b, f->b_type);
  const Output y(f->y, f->y_type);
  elementwise(f->count, [=](int64_t i, int n) { y.put(i, a.at(i, n) * b.at(i, n), n); });
  return CB_OK;
}

int multiply_backward(CbContext*, const multiply_grads* g) {
  const Input a(g->f->a, g->f->a_type), b(g->f->b, g->f->b_type), dy(g->dy, g->dy_type);
  const Output da(g->da, g->da_type, g->da_accumulate), db(g->db, g->db_type, g->db_accumulate);
  elementwise(g->f->count, [=](int64_t i, int n) {
    const vf d = dy.at(i, n);
    if (da.data != nullptr) da.put(i, d * b.at(i, n), n);
    if (db.data != nullptr) db.put(i, d * a.at(i, n), n);
  });
  return CB_OK;
}

}  // namespace CAMBIUM_LEVEL
}  // namespace cambium

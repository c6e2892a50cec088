// class_tokens: y[b,0] = cls + position[0]; y[b,1+n] = x[b,n] + position[1+n]. Gradients of what the samples share are
// added in order of the samples.
#include "cpu/elementwise.h"
#include "cpu/kernels.h"

namespace cambium {
namespace CAMBIUM_LEVEL {

int class_tokens_forward(CbContext*, const class_tokens_args* f) {
  const class_tokens_args c = *f;
  const Input x(c.x, c.x_type), cls(c.cls, CB_F32), position(c.position, CB_F32);
  const Output y(c.y, CB_F32);
  for_rows(c.batch * (c.n + 1), c.d, [=](int64_t row) {
    const int64_t sample = row / (c.n + 1), token = row % (c.n + 1);
    const int64_t from = (sample * c.n + token - 1) * c.d;
    for_lanes(0, c.d, [=](int64_t i, int n) {
      const vf value = token == 0 ? cls.at(i, n) : x.at(from + i, n);
      y.put(row * c.d + i, value + position.at(token * c.d + i, n), n);
    });
  });
  return CB_OK;
}

int class_tokens_backward(CbContext*, const class_tokens_grads* g) {
  const class_tokens_args c = *g->f;
  const Input dy(g->dy, CB_F32);
  if (g->dx != nullptr) {
    const Output dx(g->dx, g->dx_type, g->dx_accumulate);
    for_rows(c.batch * c.n, c.d, [=](int64_t row) {
      const int64_t from = (row / c.n * (c.n + 1) + row % c.n + 1) * c.d;
      for_lanes(0, c.d, [=](int64_t i, int n) { dx.put(row * c.d + i, dy.at(from + i, n), n); });
    });
  }
  const Output dcls(g->dcls, CB_F32, g->dcls_accumulate), dposition(g->dposition, CB_F32, g->dposition_accumulate);
  const int64_t tokens = g->dposition != nullptr ? c.n + 1 : g->dcls != nullptr ? 1 : 0;
  for_rows(tokens, c.d * c.batch, [=](int64_t token) {
    for_lanes(0, c.d, [=](int64_t i, int n) {
      vf total{};
      for (int64_t b = 0; b < c.batch; ++b) total += dy.at((b * (c.n + 1) + token) * c.d + i, n);
      if (dposition.data != nullptr) dposition.put(token * c.d + i, total, n);
      if (dcls.data != nullptr && token == 0) dcls.put(i, total, n);
    });
  });
  return CB_OK;
}

}  // namespace CAMBIUM_LEVEL
}  // namespace cambium

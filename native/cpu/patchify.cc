// patchify: pixels [B,C,S_h,S_w] -> rows of patches [B·N, C·p·p]; backward puts the rows back. A permutation with a
// cast.
#include "cpu/elementwise.h"
#include "cpu/kernels.h"

namespace cambium {
namespace CAMBIUM_LEVEL {
namespace {

// f(pixel offset, patch offset) for every line of p neighbouring pixels.
template <class F>
void for_lines(const patchify_args& c, const F& f) {
  const int64_t p = c.patch, across = c.width / p, down = c.height / p, width = c.channels * p * p;
  for_rows(c.batch * down * across, width, [=](int64_t row) {
    const int64_t column = row % across, line = row / across % down, sample = row / across / down;
    for (int64_t channel = 0; channel < c.channels; ++channel) {
      for (int64_t y = 0; y < p; ++y) {
        const int64_t pixel = ((sample * c.channels + channel) * c.height + line * p + y) * c.width + column * p;
        f(pixel, row * width + (channel * p + y) * p);
      }
    }
  });
}

}  // namespace

int patchify_forward(CbContext*, const patchify_args* f) {
  const int64_t p = f->patch;
  const Input pixels(f->pixels, CB_F32);
  const Output y(f->y, f->y_type);
  for_lines(*f, [=](int64_t pixel, int64_t patch) {
    for_lanes(0, p, [=](int64_t i, int n) { y.put(patch + i, pixels.at(pixel + i, n), n); });
  });
  return CB_OK;
}

int patchify_backward(CbContext*, const patchify_grads* g) {
  if (g->dx == nullptr) return CB_OK;
  const int64_t p = g->f->patch;
  const Input dy(g->dy, g->f->y_type);
  const Output dx(g->dx, CB_F32, g->dx_accumulate);
  const patchify_args& c = *g->f;
  if (!g->dx_accumulate && (c.height % p != 0 || c.width % p != 0)) {  // pixels outside every patch
    elementwise(c.batch * c.channels * c.height * c.width, [=](int64_t i, int n) { dx.put(i, vf{}, n); });
  }
  for_lines(c, [=](int64_t pixel, int64_t patch) {
    for_lanes(0, p, [=](int64_t i, int n) { dx.put(pixel + i, dy.at(patch + i, n), n); });
  });
  return CB_OK;
}

}  // namespace CAMBIUM_LEVEL
}  // namespace cambium

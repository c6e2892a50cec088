// patchify: pixels [B,C,S_h,S_w] -> rows of patches [B·N, C·p·p]; backward puts the rows back. A permutation with a
// cast.
#include "cuda/elementwise.h"
#include "cuda/kernels.h"

namespace cambium {
namespace cuda {
namespace {

// Where a run of a patch's row lies among the pixels. Both sides are contiguous along the p columns of one line.
struct Patches {
  int64_t channels, height, width, patch;
  __device__ int64_t pixel(int64_t row, int64_t i) const {
    const int64_t across = width / patch, down = height / patch;
    const int64_t column = row % across, line = row / across % down, sample = row / across / down;
    const int64_t x = i % patch, y = i / patch % patch, channel = i / patch / patch;
    return ((sample * channels + channel) * height + line * patch + y) * width + column * patch + x;
  }
};

struct Cut {
  Patches at;
  Input pixels;
  Output y;
  int64_t d;
  __device__ void operator()(int64_t row, int64_t i, int n) const {
    float v[kLanes];
    if (at.patch % kLanes == 0) {
      pixels.load(at.pixel(row, i), n, v);
    } else {
#pragma unroll
      for (int j = 0; j < kLanes; ++j) v[j] = j < n ? pixels.at(at.pixel(row, i + j)) : 0.f;
    }
    y.store(row * d + i, n, v);
  }
};

struct Paste {
  Patches at;
  Input dy;
  Output dx;
  int64_t d;
  __device__ void operator()(int64_t row, int64_t i, int n) const {
    float v[kLanes];
    dy.load(row * d + i, n, v);
    if (at.patch % kLanes == 0) return dx.store(at.pixel(row, i), n, v);
#pragma unroll
    for (int j = 0; j < kLanes; ++j)
      if (j < n) dx.put(at.pixel(row, i + j), v[j]);
  }
};

Patches patches_of(const patchify_args& f) { return {f.channels, f.height, f.width, f.patch}; }
int64_t rows_of(const patchify_args& f) { return f.batch * (f.height / f.patch) * (f.width / f.patch); }
int64_t width_of(const patchify_args& f) { return f.channels * f.patch * f.patch; }

}  // namespace

int patchify_forward(CbContext* context, const patchify_args* f) {
  return for_rows(context, rows_of(*f), width_of(*f),
                  Cut{patches_of(*f), {f->pixels, CB_F32}, {f->y, f->y_type, 0}, width_of(*f)});
}

int patchify_backward(CbContext* context, const patchify_grads* g) {
  if (g->dx == nullptr) return CB_OK;
  const patchify_args& f = *g->f;
  if (!g->dx_accumulate && (f.height % f.patch != 0 || f.width % f.patch != 0)) {  // pixels outside every patch
    const fill_args zero{f.batch * f.channels * f.height * f.width * int64_t(sizeof(float)), 0, g->dx};
    if (const int status = fill(context, &zero)) return status;
  }
  return for_rows(context, rows_of(f), width_of(f),
                  Paste{patches_of(f), {g->dy, f.y_type}, {g->dx, CB_F32, g->dx_accumulate}, width_of(f)});
}

}  // namespace cuda
}  // namespace cambium

// class_tokens: y[b,0] = cls + position[0]; y[b,1+n] = x[b,n] + position[1+n]. Gradients of what the samples share are
// added in order of the samples.
#include "cuda/elementwise.h"
#include "cuda/kernels.h"

namespace cambium {
namespace cuda {
namespace {

struct Place {
  int64_t n, d;
  Input x, cls, position;
  Output y;
  __device__ void operator()(int64_t row, int64_t i, int count) const {
    const int64_t sample = row / (n + 1), token = row % (n + 1);
    float v[kLanes], p[kLanes];
    if (token == 0)
      cls.load(i, count, v);
    else
      x.load((sample * n + token - 1) * d + i, count, v);
    position.load(token * d + i, count, p);
#pragma unroll
    for (int j = 0; j < kLanes; ++j) v[j] += p[j];
    y.store(row * d + i, count, v);
  }
};

struct Tokens {
  int64_t n, d;
  Input dy;
  Output dx;
  __device__ void operator()(int64_t row, int64_t i, int count) const {
    float v[kLanes];
    dy.load((row / n * (n + 1) + row % n + 1) * d + i, count, v);
    dx.store(row * d + i, count, v);
  }
};

struct Shared {
  int64_t n, d, batch;
  Input dy;
  Output dcls, dposition;
  __device__ void operator()(int64_t token, int64_t i, int count) const {
    float total[kLanes] = {}, v[kLanes];
    for (int64_t b = 0; b < batch; ++b) {
      dy.load((b * (n + 1) + token) * d + i, count, v);
#pragma unroll
      for (int j = 0; j < kLanes; ++j) total[j] += v[j];
    }
#pragma unroll
    for (int j = 0; j < kLanes; ++j) v[j] = total[j];
    if (dposition.data != nullptr) dposition.store(token * d + i, count, v);
    if (dcls.data != nullptr && token == 0) dcls.store(i, count, total);
  }
};

}  // namespace

int class_tokens_forward(CbContext* context, const class_tokens_args* f) {
  return for_rows(context, f->batch * (f->n + 1), f->d,
                  Place{f->n, f->d, {f->x, f->x_type}, {f->cls, CB_F32}, {f->position, CB_F32}, {f->y, CB_F32, 0}});
}

int class_tokens_backward(CbContext* context, const class_tokens_grads* g) {
  const class_tokens_args& f = *g->f;
  const Input dy{g->dy, CB_F32};
  if (g->dx != nullptr) {
    const Tokens tokens{f.n, f.d, dy, {g->dx, g->dx_type, g->dx_accumulate}};
    if (const int status = for_rows(context, f.batch * f.n, f.d, tokens)) return status;
  }
  const int64_t tokens = g->dposition != nullptr ? f.n + 1 : g->dcls != nullptr ? 1 : 0;
  return for_rows(context, tokens, f.d,
                  Shared{f.n,
                         f.d,
                         f.batch,
                         dy,
                         {g->dcls, CB_F32, g->dcls_accumulate},
                         {g->dposition, CB_F32, g->dposition_accumulate}});
}

}  // namespace cuda
}  // namespace cambium

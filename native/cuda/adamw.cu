// adamw: one pass over every parameter. Gradients of the f32 masters are read once: clip, decay, moments, step and
// average happen together; learning rate and bias corrections are read from device memory.
#include "cuda/index.h"
#include "cuda/kernels.h"
#include "cuda/parameter_list.h"

namespace cambium {
namespace cuda {
namespace {

struct Betas {
  float beta1, beta2, rest1, rest2, eps, max_norm;
};

__global__ void adamw_kernel(const __grid_constant__ ParameterList list, Betas b, const float* schedule,
                             const float* norm2, const CbFault* fault) {
  if (faulty(fault)) return;
  int64_t begin, end;
  const CbParameter& p = parameter_of(list, int32_t(blockIdx.x), &begin, &end);
  const float clip = clip_factor(norm2, b.max_norm), lr = schedule[0] * p.lr_scale, momentum = schedule[3];
  const float keep = 1.f - lr * p.decay, rate = lr / schedule[1], inverse_c2 = 1.f / schedule[2];
  for (int64_t i = begin + threadIdx.x * kLanes; i < end; i += kThreads * kLanes) {
    const int n = int(smaller(kLanes, end - i));
    float g[kLanes], m[kLanes], v[kLanes], value[kLanes];
    load_gradient(p, i, n, g);
    Input{p.m, CB_F32}.load(i, n, m);
    Input{p.v, CB_F32}.load(i, n, v);
    Input{p.value, CB_F32}.load(i, n, value);
#pragma unroll
    for (int j = 0; j < kLanes; ++j) {
      g[j] *= clip;
      m[j] = fmaf(b.beta1, m[j], b.rest1 * g[j]);
      v[j] = fmaf(b.beta2, v[j], b.rest2 * g[j] * g[j]);
      value[j] = value[j] * keep - rate * m[j] / (sqrtf(v[j] * inverse_c2) + b.eps);
    }
    Output{p.m, CB_F32, 0}.store(i, n, m);
    Output{p.v, CB_F32, 0}.store(i, n, v);
    Output{p.value, CB_F32, 0}.store(i, n, value);
    keep_average(p, momentum, i, n, value);
  }
}

}  // namespace

int adamw(CbContext* context, const adamw_args* f) {
  const Betas b{float(f->beta1), float(f->beta2), float(1.0 - f->beta1), float(1.0 - f->beta2), f->eps, f->max_norm};
  return for_parameters(f->parameters, f->list, [&](const ParameterList& list, dim3 grid) {
    return CB_LAUNCH(context, adamw_kernel, grid, dim3(kThreads), 0, list, b, f->schedule, f->norm2, context->fault);
  });
}

}  // namespace cuda
}  // namespace cambium

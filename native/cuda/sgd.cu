// sgd: one pass over every parameter, as in PyTorch (coupled decay, no dampening), with the average in the same pass.
#include "cuda/index.h"
#include "cuda/kernels.h"
#include "cuda/parameter_list.h"

namespace cambium {
namespace cuda {
namespace {

__global__ void sgd_kernel(const __grid_constant__ ParameterList list, float momentum, float max_norm,
                           const float* schedule, const float* norm2, const CbFault* fault) {
  if (faulty(fault)) return;
  int64_t begin, end;
  const CbParameter& p = parameter_of(list, int32_t(blockIdx.x), &begin, &end);
  const float clip = clip_factor(norm2, max_norm), lr = schedule[0] * p.lr_scale;
  for (int64_t i = begin + threadIdx.x * kLanes; i < end; i += kThreads * kLanes) {
    const int n = int(smaller(kLanes, end - i));
    float g[kLanes], m[kLanes] = {}, value[kLanes];
    load_gradient(p, i, n, g);
    Input{p.value, CB_F32}.load(i, n, value);
    if (p.m != nullptr) Input{p.m, CB_F32}.load(i, n, m);
#pragma unroll
    for (int j = 0; j < kLanes; ++j) {
      m[j] = fmaf(momentum, m[j], fmaf(p.decay, value[j], g[j] * clip));
      value[j] -= lr * m[j];
    }
    if (p.m != nullptr) Output{p.m, CB_F32, 0}.store(i, n, m);
    Output{p.value, CB_F32, 0}.store(i, n, value);
    keep_average(p, schedule[1], i, n, value);
  }
}

}  // namespace

int sgd(CbContext* context, const sgd_args* f) {
  return for_parameters(f->parameters, f->list, [&](const ParameterList& list, dim3 grid) {
    return CB_LAUNCH(context, sgd_kernel, grid, dim3(kThreads), 0, list, f->momentum, f->max_norm, f->schedule,
                     f->norm2, context->fault);
  });
}

}  // namespace cuda
}  // namespace cambium

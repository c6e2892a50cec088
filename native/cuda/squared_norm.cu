// squared_norm: y[0] = Σ over parameters of Σ gradient² in f64: one sum a block, then the blocks in order.
#include "cuda/kernels.h"
#include "cuda/parameter_list.h"
#include "cuda/reduce.h"

namespace cambium {
namespace cuda {
namespace {

__global__ void squares_kernel(const __grid_constant__ ParameterList list, double* partial) {
  __shared__ double room[kThreads / kWarp];
  int64_t begin, end;
  const CbParameter& p = parameter_of(list, int32_t(blockIdx.x), &begin, &end);
  double total = 0;
  for (int64_t i = begin + threadIdx.x * kLanes; i < end; i += kThreads * kLanes) {
    float g[kLanes];
    const int n = int(smaller(kLanes, end - i));
    load_gradient(p, i, n, g);
#pragma unroll
    for (int j = 0; j < kLanes; ++j) total += j < n ? double(g[j]) * double(g[j]) : 0.0;
  }
  total = block_sum(total, room);
  if (threadIdx.x == 0) partial[blockIdx.x] = total;
}

}  // namespace

int squared_norm(CbContext* context, const squared_norm_args* f) {
  int64_t blocks = 0, done = 0;
  for (int64_t p = 0; p < f->parameters; ++p) blocks += divide_up(f->list[p].count, kParameterElements);
  double* const partial = static_cast<double*>(context->scratch(context, size_t(blocks + 1) * sizeof(double)));
  if (partial == nullptr) return CB_OUT_OF_MEMORY;
  const int status = for_parameters(f->parameters, f->list, [&](const ParameterList& list, dim3 grid) {
    double* const to = partial + done;
    done += grid.x;
    return CB_LAUNCH(context, squares_kernel, grid, dim3(kThreads), 0, list, to);
  });
  return status ? status : keep_total(context, blocks, partial, {f->y, 0, 1.0});
}

}  // namespace cuda
}  // namespace cambium

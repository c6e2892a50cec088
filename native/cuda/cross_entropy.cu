// cross_entropy: mean over rows against smoothed labels, or against a teacher's softmax. See args.h for the contract.
// A warp a row; sums over columns and rows are f64, in order.
#include "cuda/activation.h"
#include "cuda/checked.h"
#include "cuda/kernels.h"
#include "cuda/reduce.h"

namespace cambium {
namespace cuda {
namespace {

// One row of scaled logits: z_j = factor · at[j].
struct Row {
  const float* at;
  float factor;
  int64_t c;
  __device__ float z(int64_t j) const { return factor * at[j]; }
  __device__ double lse() const {
    float top = -INFINITY;
    double total = 0;
    for (int64_t j = threadIdx.x % kWarp; j < c; j += kWarp) top = fmaxf(top, z(j));
    top = warp_max(top);
    for (int64_t j = threadIdx.x % kWarp; j < c; j += kWarp) total += double(expf(z(j) - top));
    return double(top) + log(warp_sum(total));
  }
};

struct CrossEntropy {
  cross_entropy_args f;
  IndexCheck labels;
  double* rows;
  __device__ float s() const {
    return f.scale == nullptr ? 1.f : f.log_scale ? float(exp(double(*f.scale))) : *f.scale;
  }
  __device__ Row row(const float* from, int64_t i) const { return {from + i * f.c, s() / f.temperature, f.c}; }
  // What the softmax is compared with.
  __device__ float target(const Row& teacher, int64_t i, int64_t j) const {
    if (f.teacher != nullptr) return expf(teacher.z(j) - f.teacher_lse[i]);
    return (f.labels[i] == j ? 1.f - f.smoothing : 0.f) + f.smoothing / float(f.c);
  }
};

__global__ void cross_entropy_forward_kernel(CrossEntropy a) {
  const int64_t i = int64_t(blockIdx.x) * kRowsPerBlock + threadIdx.x / kWarp;
  if (i >= a.f.n) return;
  if (a.f.labels != nullptr && !a.labels.in_range(a.f.labels[i], a.f.c, i)) return;
  const Row row = a.row(a.f.logits, i), teacher = a.row(a.f.teacher != nullptr ? a.f.teacher : a.f.logits, i);
  const double lse = row.lse();
  if (a.f.teacher != nullptr) {
    const double other = teacher.lse();
    if (threadIdx.x % kWarp == 0) a.f.teacher_lse[i] = float(other);
    __syncwarp();
  }
  double along = 0;
  for (int64_t j = threadIdx.x % kWarp; j < a.f.c; j += kWarp)
    along += double(a.target(teacher, i, j)) * (lse - double(row.z(j)));
  along = warp_sum(along);
  if (threadIdx.x % kWarp != 0) return;
  a.f.lse[i] = float(lse);
  a.rows[i] = along;
}

__global__ void cross_entropy_backward_kernel(CrossEntropy a, const float* dy, Output dlogits) {
  const int64_t i = int64_t(blockIdx.x) * kRowsPerBlock + threadIdx.x / kWarp;
  if (i >= a.f.n) return;
  if (a.f.labels != nullptr && !a.labels.in_range(a.f.labels[i], a.f.c, i)) return;
  const Row row = a.row(a.f.logits, i), teacher = a.row(a.f.teacher != nullptr ? a.f.teacher : a.f.logits, i);
  const float factor = *dy * a.f.temperature / float(a.f.n), s = a.s();
  double along = 0;
  for (int64_t j = threadIdx.x % kWarp; j < a.f.c; j += kWarp) {
    const float d = factor * (expf(row.z(j) - a.f.lse[i]) - a.target(teacher, i, j));
    along += double(d) * double(row.at[j]);
    if (dlogits.data != nullptr) dlogits.put(i * a.f.c + j, d * s);
  }
  along = warp_sum(along);
  if (threadIdx.x % kWarp == 0) a.rows[i] = a.f.log_scale ? along * double(s) : along;
}

int run(CbContext* context, const cross_entropy_args& f, CrossEntropy* a) {
  double* const rows = static_cast<double*>(context->scratch(context, size_t(f.n + 1) * sizeof(double)));
  *a = {f, index_check(context, "cross_entropy: labels"), rows};
  return rows == nullptr ? CB_OUT_OF_MEMORY : CB_OK;
}
dim3 grid_of(const cross_entropy_args& f) { return dim3(unsigned(divide_up(f.n, kRowsPerBlock))); }

}  // namespace

int cross_entropy_forward(CbContext* context, const cross_entropy_args* f) {
  CrossEntropy a;
  if (const int status = run(context, *f, &a)) return status;
  if (f->n > 0)
    if (const int status = CB_LAUNCH(context, cross_entropy_forward_kernel, grid_of(*f), dim3(kThreads), 0, a))
      return status;
  const double t = double(f->temperature);
  return keep_total(context, f->n, a.rows, {f->loss, 0, f->n > 0 ? t * t / double(f->n) : 0.0});
}

int cross_entropy_backward(CbContext* context, const cross_entropy_grads* g) {
  const cross_entropy_args& f = *g->f;
  CrossEntropy a;
  if (const int status = run(context, f, &a)) return status;
  if (f.n > 0) {
    const Output dlogits{g->dlogits, CB_F32, g->dlogits_accumulate};
    if (const int status =
            CB_LAUNCH(context, cross_entropy_backward_kernel, grid_of(f), dim3(kThreads), 0, a, g->dy, dlogits))
      return status;
  }
  if (g->dscale == nullptr) return CB_OK;
  return keep_total(context, f.n, a.rows, {g->dscale, g->dscale_accumulate, 1.0});
}

}  // namespace cuda
}  // namespace cambium

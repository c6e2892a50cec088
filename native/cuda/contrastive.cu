// contrastive: the symmetric multi-positive loss with margin and smoothing of args.h, with one N×N array.
// Both directions share the targets ỹ_ij, whose rows sum to one and whose columns sum to c_j (not one where classes
// have different sizes and ε > 0):
//   CE of row i = lse_i − Σ_j ỹ_ij z_ij;  CE of column j = c_j · lse_j − Σ_i ỹ_ij z_ij
//   dz_ij = dy/2N · (softmax_j z_ij + c_j · softmax_i z_ij − 2 ỹ_ij); dimage = s·dz·text, dtext = s·dzᵀ·image.
// A block has a row, or 32 columns. Sums of the loss and of dscale are f64, per row or column, added in order.
#include "cuda/gemm.h"
#include "cuda/kernels.h"
#include "cuda/reduce.h"

namespace cambium {
namespace cuda {
namespace {

// The weights of a positive and of a negative in each row of ỹ, and the sums c of its columns: [N] each.
struct Targets {
  float *positive, *negative, *column;
};

// What all kernels share. rows, columns: f64 parts of the result.
struct Loss {
  contrastive_args f;
  Targets t;
  double *rows, *columns;
  __device__ float s() const { return f.log_scale ? float(exp(double(*f.scale))) : *f.scale; }
  __device__ float wanted(int64_t i, int64_t j) const {
    return f.labels[i] == f.labels[j] ? t.positive[i] : t.negative[i];
  }
};

__global__ void weights_kernel(Loss a) {
  const int64_t i = int64_t(blockIdx.x) * kRowsPerBlock + threadIdx.x / kWarp;
  if (i >= a.f.n) return;
  const int lane = threadIdx.x % kWarp;
  int count = 0;
  for (int64_t j = lane; j < a.f.n; j += kWarp) count += a.f.labels[j] == a.f.labels[i] ? 1 : 0;
  const int64_t positives = warp_sum(count), negatives = a.f.n - positives;
  if (lane != 0) return;
  const double epsilon = negatives > 0 ? double(a.f.epsilon) : 0.0;
  a.t.positive[i] = float((1.0 - epsilon) / double(positives));
  a.t.negative[i] = negatives > 0 ? float(epsilon / double(negatives)) : 0.f;
  a.t.column[i] = float(positives);
}

// Rows of one class have the same weights: column j holds |P| positives, and negatives from every other class.
__global__ void column_weights_kernel(Loss a) {
  __shared__ double room[kThreads / kWarp];
  double all = 0;
  for (int64_t i = threadIdx.x; i < a.f.n; i += kThreads) all += double(a.t.negative[i]);
  all = block_sum(all, room);
  for (int64_t j = threadIdx.x; j < a.f.n; j += kThreads) {
    const double positives = double(a.t.column[j]);
    a.t.column[j] = float(positives * double(a.t.positive[j]) + all - positives * double(a.t.negative[j]));
  }
}

// Turns the products of a row into z in place; keeps its log-sum-exp and its cross entropy.
__global__ void rows_forward_kernel(Loss a) {
  __shared__ float floats[kThreads / kWarp];
  __shared__ double doubles[kThreads / kWarp];
  const int64_t i = blockIdx.x, n = a.f.n;
  float* const z = a.f.logits + i * n;
  const float s = a.s();
  float top = -INFINITY;
  double weighted = 0, total = 0;
  for (int64_t j = threadIdx.x; j < n; j += kThreads) {
    const bool same = a.f.labels[i] == a.f.labels[j];
    const float value = (z[j] + (same ? 0.f : a.f.margin)) * s;
    z[j] = value;
    top = fmaxf(top, value);
    weighted += double(same ? a.t.positive[i] : a.t.negative[i]) * double(value);
  }
  top = block_max(top, floats);
  weighted = block_sum(weighted, doubles);
  for (int64_t j = threadIdx.x; j < n; j += kThreads) total += double(fast_exp2(kLog2E * (z[j] - top)));
  total = block_sum(total, doubles);
  const double lse = double(top) + log(total);
  if (threadIdx.x != 0) return;
  a.f.row_lse[i] = float(lse);
  a.rows[i] = lse - weighted;
}

// The same down 32 columns, whose rows the warps share; z is final.
__global__ void columns_forward_kernel(Loss a) {
  __shared__ float tops[kRowsPerBlock][kWarp];
  __shared__ double totals[kRowsPerBlock][kWarp], sums[kRowsPerBlock][kWarp];
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int64_t j = int64_t(blockIdx.x) * kWarp + lane, n = a.f.n;
  float top = -INFINITY;
  for (int64_t i = warp; i < n && j < n; i += kRowsPerBlock) top = fmaxf(top, a.f.logits[i * n + j]);
  tops[warp][lane] = top;
  __syncthreads();
  for (int w = 0; w < kRowsPerBlock; ++w) top = fmaxf(top, tops[w][lane]);
  double total = 0, weighted = 0;
  for (int64_t i = warp; i < n && j < n; i += kRowsPerBlock) {
    const float z = a.f.logits[i * n + j];
    total += double(fast_exp2(kLog2E * (z - top)));
    weighted += double(a.wanted(i, j)) * double(z);
  }
  totals[warp][lane] = total, sums[warp][lane] = weighted;
  __syncthreads();
  if (warp != 0 || j >= n) return;
  total = weighted = 0;
  for (int w = 0; w < kRowsPerBlock; ++w) total += totals[w][lane], weighted += sums[w][lane];
  const double lse = double(top) + log(total);
  a.f.column_lse[j] = float(lse);
  a.columns[j] = double(a.t.column[j]) * lse - weighted;
}

// Overwrites a row of z with dz; keeps Σ_j dz_ij · ∂z_ij/∂(*scale).
__global__ void rows_backward_kernel(Loss a, const float* dy, bool cosines) {
  __shared__ double room[kThreads / kWarp];
  const int64_t i = blockIdx.x, n = a.f.n;
  float* const z = a.f.logits + i * n;
  const float half = *dy / (2.f * float(n)), row_lse = a.f.row_lse[i], s = a.s();
  const bool slow = cosines && s == 0 && !a.f.log_scale;  // z no longer tells the cosines
  double along = 0;
  for (int64_t j = threadIdx.x; j < n; j += kThreads) {
    const float value = z[j];
    const float p =
        fast_exp2(kLog2E * (value - row_lse)) + a.t.column[j] * fast_exp2(kLog2E * (value - a.f.column_lse[j]));
    const float dz = half * (p - 2.f * a.wanted(i, j));
    z[j] = dz;
    double cosine = double(value);
    if (slow) {
      cosine = a.f.labels[i] == a.f.labels[j] ? 0.0 : double(a.f.margin);
      for (int64_t k = 0; k < a.f.p; ++k) cosine += double(a.f.image[i * a.f.p + k]) * double(a.f.text[j * a.f.p + k]);
    }
    along += double(dz) * cosine;
  }
  along = block_sum(along, room);
  if (threadIdx.x != 0) return;
  a.rows[i] = a.f.log_scale || slow ? along : s != 0 ? along / double(s) : 0.0;
}

// The loss, or the gradient of the scale.
struct Finish {
  float* to;
  int32_t accumulate;
  double factor;
  __device__ void finish(double total) const { *to = float((accumulate ? double(*to) : 0.0) + total * factor); }
};

__global__ void factor_kernel(Loss a, float* s) { *s = a.s(); }

int loss_of(CbContext* context, const contrastive_args& f, Loss* a) {
  float* const weights = static_cast<float*>(context->scratch(context, size_t(3 * f.n + 1) * sizeof(float)));
  double* const parts = static_cast<double*>(context->scratch(context, size_t(2 * f.n + 1) * sizeof(double)));
  if (weights == nullptr || parts == nullptr) return CB_OUT_OF_MEMORY;
  *a = {f, {weights, weights + f.n, weights + 2 * f.n}, parts, parts + f.n};
  if (f.n == 0) return CB_OK;
  if (const int status =
          CB_LAUNCH(context, weights_kernel, dim3(unsigned(divide_up(f.n, kRowsPerBlock))), dim3(kThreads), 0, *a))
    return status;
  return CB_LAUNCH(context, column_weights_kernel, dim3(1), dim3(kThreads), 0, *a);
}

int product(CbContext* context, Operand left, Operand right, int64_t m, int64_t n, int64_t k,
            const Epilogue& epilogue) {
  Product p{};
  p.m = m, p.n = n, p.parts = 1;
  p.part[0] = {left, right, k};
  p.epilogue = epilogue;
  return multiply(context, CB_F32, p);
}

}  // namespace

int contrastive_forward(CbContext* context, const contrastive_args* f) {
  Loss a;
  if (const int status = loss_of(context, *f, &a)) return status;
  const int64_t n = f->n;
  if (n > 0) {
    const Epilogue logits = plain(f->logits, CB_F32, 0, n);
    if (const int status =
            product(context, {f->image, CB_F32, false, f->p}, {f->text, CB_F32, false, f->p}, n, n, f->p, logits))
      return status;
    if (const int status = CB_LAUNCH(context, rows_forward_kernel, dim3(unsigned(n)), dim3(kThreads), 0, a))
      return status;
    if (const int status =
            CB_LAUNCH(context, columns_forward_kernel, dim3(unsigned(divide_up(n, kWarp))), dim3(kThreads), 0, a))
      return status;
  }
  const Finish finish{f->loss, 0, n > 0 ? 1.0 / (2.0 * double(n)) : 0.0};
  return CB_LAUNCH(context, (total_kernel<Finish>), dim3(1), dim3(kThreads), 0, 2 * n, finish, a.rows);
}

int contrastive_backward(CbContext* context, const contrastive_grads* g) {
  const contrastive_args& f = *g->f;
  Loss a;
  if (const int status = loss_of(context, f, &a)) return status;
  float* const s = static_cast<float*>(context->scratch(context, sizeof(float)));
  if (s == nullptr) return CB_OUT_OF_MEMORY;
  const int64_t n = f.n;
  if (n > 0) {
    if (const int status = CB_LAUNCH(context, rows_backward_kernel, dim3(unsigned(n)), dim3(kThreads), 0, a, g->dy,
                                     g->dscale != nullptr))
      return status;
    if (const int status = CB_LAUNCH(context, factor_kernel, dim3(1), dim3(1), 0, a, s)) return status;
  }
  Epilogue e = plain(g->dimage, CB_F32, g->dimage_accumulate, f.p);
  e.gate = s;
  const Operand image{f.image, CB_F32, true, f.p}, text{f.text, CB_F32, true, f.p};
  if (g->dimage != nullptr)
    if (const int status = product(context, {f.logits, CB_F32, false, n}, text, n, f.p, n, e)) return status;
  e.y = {g->dtext, CB_F32, g->dtext_accumulate};
  if (g->dtext != nullptr)
    if (const int status = product(context, {f.logits, CB_F32, true, n}, image, n, f.p, n, e)) return status;
  if (g->dscale == nullptr) return CB_OK;
  return CB_LAUNCH(context, (total_kernel<Finish>), dim3(1), dim3(kThreads), 0, n,
                   Finish{g->dscale, g->dscale_accumulate, 1.0}, a.rows);
}

}  // namespace cuda
}  // namespace cambium

// pooled_attention: softmax attention of one query row of each sample, and its gradient, with the branch of extra keys
// and values. See args.h for the contract.
//
// A block has one head of one sample; its warps share the keys. With a single query every key and every value is read
// once, which memory bounds. Scores, weights and sums are f32; the weights of a block lie in scratch memory.
#include "cuda/attention.h"
#include "cuda/kernels.h"
#include "cuda/reduce.h"

namespace cambium {
namespace cuda {
namespace {

struct Pooled {
  pooled_attention_args f;
  int64_t width, most;  // most: weights of one head, m + batch · length
  float scale;
  IndexCheck offsets, rows, tasks;
  float *p, *ds;  // [heads, most]; ds null in forward
};

// Keys of one softmax: extra ones, then those of the sample that the query sees.
struct KeyList {
  Keys extra, own;
  __device__ int64_t count() const { return extra.count + own.count; }
  // Element c of key j, or of its value.
  __device__ float at(int64_t j, int64_t c, bool value) const {
    const Keys& keys = j < extra.count ? extra : own;
    const int64_t row = (j < extra.count ? j : j - extra.count) * keys.stride + c;
    return value ? keys.v.at(keys.v_at + row) : keys.k.at(keys.k_at + row);
  }
};

// One block's part of the work.
struct Head {
  int64_t sample, head, first, count, seen, q_at;
  bool has_extra, joint;
  float weight;
  Keys extra, own;
  float *p, *ds;  // of the extra keys, then of the sample's
};

__device__ bool head_of(const Pooled& a, Head* h) {
  const pooled_attention_args& f = a.f;
  h->sample = blockIdx.x, h->head = blockIdx.y;
  if (!a.offsets.sample(f.offsets, h->sample, f.batch, f.m, f.m, &h->first, &h->count)) return false;
  const int32_t row = f.row[h->sample];
  if (!a.rows.between(row, h->sample, h->first, h->first + h->count)) return false;
  const int64_t column = h->head * a.width, at = h->first * 2 * f.d + column, l = f.branch.length;
  h->seen = f.causal ? row - h->first + 1 : h->count;
  h->q_at = h->sample * f.d + column;
  h->own = {{f.kv, f.type}, {f.kv, f.type}, at, at + f.d, 2 * f.d, h->seen};
  h->has_extra = extra_keys(f.branch, a.tasks, h->sample, f.d, column, &h->extra, &h->weight);
  h->joint = h->has_extra && f.branch.joint;
  const int64_t place = h->head * a.most + h->first + h->sample * l;
  h->p = a.p + place, h->ds = a.ds != nullptr ? a.ds + place : nullptr;
  return true;
}

// Softmax weights of a list.
__device__ void softmax(const Pooled& a, const KeyList& list, int64_t q_at, float* p, float* room) {
  const int lane = threadIdx.x % kWarp;
  const Input q{a.f.q, a.f.type};
  float top = -INFINITY, total = 0;
  for (int64_t j = threadIdx.x / kWarp; j < list.count(); j += kRowsPerBlock) {
    float score = 0;
    for (int64_t c = lane; c < a.width; c += kWarp) score = fmaf(q.at(q_at + c), list.at(j, c, false), score);
    score = a.scale * warp_sum(score);
    top = fmaxf(top, score);
    if (lane == 0) p[j] = score;
  }
  top = block_max(top, room);
  for (int64_t j = threadIdx.x; j < list.count(); j += kThreads) total += p[j] = fast_exp2(kLog2E * (p[j] - top));
  total = block_sum(total, room);
  for (int64_t j = threadIdx.x; j < list.count(); j += kThreads) p[j] /= total;
  __syncthreads();
}

// sums [warps, width] = the warps' parts of Σ_j x_j · row_j over values or keys; column_sum adds them up.
__device__ void weigh_rows(const Pooled& a, const KeyList& list, const float* x, bool value, float* sums) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  __syncthreads();
  for (int64_t c = lane; c < a.width; c += kWarp) {
    float sum = 0;
    for (int64_t j = warp; j < list.count(); j += kRowsPerBlock) sum = fmaf(x[j], list.at(j, c, value), sum);
    sums[warp * a.width + c] = sum;
  }
  __syncthreads();
}

__device__ float column_sum(const Pooled& a, const float* sums, int64_t c) {
  float total = 0;
  for (int w = 0; w < kRowsPerBlock; ++w) total += sums[w * a.width + c];
  return total;
}

__global__ void pooled_forward_kernel(Pooled a) {
  CB_DYNAMIC_SHARED(float, sums);
  __shared__ float room[kRowsPerBlock];
  Head h;
  if (!head_of(a, &h)) return;
  const Keys none{};
  const KeyList list{h.joint ? h.extra : none, h.own};
  float* const extra_sums = sums + kRowsPerBlock * a.width;
  softmax(a, list, h.q_at, h.p, room);
  weigh_rows(a, list, h.p, true, sums);
  const bool apart = h.has_extra && !h.joint;
  if (apart) {
    const KeyList extra{h.extra, none};
    softmax(a, extra, h.q_at, h.p, room);
    weigh_rows(a, extra, h.p, true, extra_sums);
  }
  const Output y{a.f.y, a.f.type, 0};
  for (int64_t c = threadIdx.x; c < a.width; c += kThreads)
    y.put(h.q_at + c,
          apart ? column_sum(a, sums, c) + h.weight * column_sum(a, extra_sums, c) : column_sum(a, sums, c));
}

// From weights p to dS / √K in ds. dP counts from the heaviest key's: where that has nearly all the weight, the
// difference loses nothing.
__device__ void differentiate(const Pooled& a, const KeyList& list, const void* dy, int64_t q_at, float weight,
                              const float* p, float* ds, float* room) {
  const int lane = threadIdx.x % kWarp;
  const Input d{dy, a.f.type};
  float top = -INFINITY, heaviest = -INFINITY, delta = 0;
  for (int64_t j = threadIdx.x / kWarp; j < list.count(); j += kRowsPerBlock) {
    float value = 0;
    for (int64_t c = lane; c < a.width; c += kWarp) value = fmaf(d.at(q_at + c), list.at(j, c, true), value);
    value = warp_sum(value);
    if (lane == 0) ds[j] = value;
  }
  for (int64_t j = threadIdx.x; j < list.count(); j += kThreads) top = fmaxf(top, p[j]);
  top = block_max(top, room);
  for (int64_t j = threadIdx.x; j < list.count(); j += kThreads)
    if (p[j] == top) heaviest = fmaxf(heaviest, -float(j));
  heaviest = block_max(heaviest, room);
  const float base = heaviest > -INFINITY ? ds[int64_t(-heaviest)] : 0.f;  // of NaN none is the heaviest
  for (int64_t j = threadIdx.x; j < list.count(); j += kThreads) delta += p[j] * (ds[j] - base);
  delta = block_sum(delta, room);
  for (int64_t j = threadIdx.x; j < list.count(); j += kThreads)
    ds[j] = weight * (p[j] * (ds[j] - base - delta)) * a.scale;
  __syncthreads();
}

struct PooledGradients {
  const void* dy;
  Output dq, dkv;
  float *extra_keys, *extra_values;  // [batch, length, d]
};

// dK = dSᵀ q and dV = w Pᵀ dy of the extra keys.
__device__ void store_extra(const Pooled& a, const PooledGradients& g, const Head& h) {
  const Input q{a.f.q, a.f.type}, dy{g.dy, a.f.type};
  for (int64_t i = threadIdx.x; i < h.extra.count * a.width; i += kThreads) {
    const int64_t j = i / a.width, c = i % a.width, to = (h.sample * h.extra.count + j) * a.f.d + h.head * a.width + c;
    g.extra_keys[to] = h.ds[j] * q.at(h.q_at + c);
    g.extra_values[to] = h.weight * h.p[j] * dy.at(h.q_at + c);
  }
}

__global__ void pooled_backward_kernel(Pooled a, PooledGradients g) {
  CB_DYNAMIC_SHARED(float, sums);
  __shared__ float room[kRowsPerBlock];
  Head h;
  if (!head_of(a, &h)) return;
  const Keys none{};
  const bool apart = h.has_extra && !h.joint, branch = g.extra_keys != nullptr && h.has_extra;
  const KeyList list{h.joint ? h.extra : none, h.own}, extra{h.extra, none};
  float* const extra_sums = sums + kRowsPerBlock * a.width;
  if (apart) {  // its weights are used up before the others take their place
    softmax(a, extra, h.q_at, h.p, room);
    differentiate(a, extra, g.dy, h.q_at, h.weight, h.p, h.ds, room);
    weigh_rows(a, extra, h.ds, false, extra_sums);
    if (branch) store_extra(a, g, h);
    __syncthreads();
  }
  softmax(a, list, h.q_at, h.p, room);
  differentiate(a, list, g.dy, h.q_at, 1.f, h.p, h.ds, room);
  weigh_rows(a, list, h.ds, false, sums);
  if (branch && h.joint) store_extra(a, g, h);
  for (int64_t c = threadIdx.x; g.dq.data != nullptr && c < a.width; c += kThreads)
    g.dq.put(h.q_at + c, apart ? column_sum(a, sums, c) + column_sum(a, extra_sums, c) : column_sum(a, sums, c));
  if (g.dkv.data == nullptr) return;
  const Input q{a.f.q, a.f.type}, dy{g.dy, a.f.type};
  const int64_t skip = list.extra.count;
  for (int64_t i = threadIdx.x; i < h.count * a.width; i += kThreads) {
    const int64_t j = i / a.width, c = i % a.width, to = h.own.k_at + j * h.own.stride + c;
    g.dkv.put(to, j < h.seen ? h.ds[skip + j] * q.at(h.q_at + c) : 0.f);
    g.dkv.put(to + a.f.d, j < h.seen ? h.p[skip + j] * dy.at(h.q_at + c) : 0.f);
  }
}

int pooled_of(CbContext* context, const pooled_attention_args& f, bool backward, Pooled* a) {
  const int64_t width = f.d / f.heads, most = f.m + f.batch * f.branch.length;
  float* const p =
      static_cast<float*>(context->scratch(context, size_t((backward ? 2 : 1) * f.heads * most + 1) * sizeof(float)));
  if (p == nullptr) return CB_OUT_OF_MEMORY;
  *a = {f,
        width,
        most,
        float(1.0 / sqrt(double(width))),
        index_check(context, "pooled_attention: offsets"),
        index_check(context, "pooled_attention: row"),
        index_check(context, "pooled_attention: index"),
        p,
        backward ? p + f.heads * most : nullptr};
  return CB_OK;
}

dim3 grid_of(const pooled_attention_args& f) { return dim3(unsigned(f.batch), unsigned(f.heads)); }
size_t bytes_of(const Pooled& a) { return size_t(2 * kRowsPerBlock * a.width) * sizeof(float); }

}  // namespace

int pooled_attention_forward(CbContext* context, const pooled_attention_args* f) {
  if (f->batch == 0 || f->d == 0) return CB_OK;
  Pooled a;
  if (const int status = pooled_of(context, *f, false, &a)) return status;
  return CB_LAUNCH(context, pooled_forward_kernel, grid_of(*f), dim3(kThreads), bytes_of(a), a);
}

int pooled_attention_backward(CbContext* context, const pooled_attention_grads* g) {
  const pooled_attention_args& f = *g->f;
  if (f.d == 0) return CB_OK;
  const bool branch = f.branch.length > 0 && (g->branch.dkeys != nullptr || g->branch.dvalues != nullptr);
  const int64_t each = branch ? f.batch * f.branch.length * f.d : 0;
  float* const extra = static_cast<float*>(context->scratch(context, size_t(2 * each + 1) * sizeof(float)));
  if (extra == nullptr) return CB_OUT_OF_MEMORY;
  if (branch) {
    const fill_args zero{2 * each * int64_t(sizeof(float)), 0, extra};
    if (const int status = fill(context, &zero)) return status;
  }
  if (f.batch > 0) {
    Pooled a;
    if (const int status = pooled_of(context, f, true, &a)) return status;
    const PooledGradients to{g->dy,
                             {g->dq, f.type, g->dq_accumulate},
                             {g->dkv, f.type, g->dkv_accumulate},
                             branch ? extra : nullptr,
                             branch ? extra + each : nullptr};
    if (const int status = CB_LAUNCH(context, pooled_backward_kernel, grid_of(f), dim3(kThreads), bytes_of(a), a, to))
      return status;
  }
  return branch ? sum_branch(context, f.branch, g->branch, f.batch, f.d, extra, extra + each) : int(CB_OK);
}

}  // namespace cuda
}  // namespace cambium

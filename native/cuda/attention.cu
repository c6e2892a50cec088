// attention: ragged multi-head softmax attention and its gradient, with the branch of extra keys and values. Here:
// checks, the choice of kernels, what backward recomputes row by row, and the sums of the branch's gradients over
// samples.
#include "cuda/attention.h"
#include "cuda/kernels.h"
#include "cuda/reduce.h"

namespace cambium {
namespace cuda {
namespace {

Attention shape_of(CbContext* context, const attention_args& f) {
  const int64_t width = f.d / f.heads;
  return {f.batch,
          f.m,
          f.d,
          f.heads,
          width,
          f.max_tokens,
          f.qkv,
          f.type,
          f.causal,
          float(1.0 / sqrt(double(width))),
          f.offsets,
          f.branch,
          index_check(context, "attention: offsets"),
          index_check(context, "attention: index"),
          0};
}

// A warp a row and head: δ = dy · y, less the branch's part of it; lse and δ of the branch's own softmax.
// rounded: extra keys and values are rounded to bf16, as the kernels on tensor cores take them.
__global__ void statistics_kernel(Attention a, AttentionGradients g, bool rounded) {
  const int64_t b = a.from + blockIdx.z, head = blockIdx.y, i = int64_t(blockIdx.x) * kRowsPerBlock + threadIdx.x / kWarp;
  const int lane = threadIdx.x % kWarp;
  int64_t first, count;
  if (!a.sample(b, &first, &count) || i >= count) return;
  const int64_t at = (first + i) * a.d + head * a.width, to = head * a.m + first + i,
                q_at = a.query_at(first + i, head);
  const Input y{g.y, a.type}, dy{g.dy, a.type}, q{a.qkv, a.type};
  float delta = 0;
  for (int64_t c = lane; c < a.width; c += kWarp) delta = fmaf(dy.at(at + c), y.at(at + c), delta);
  delta = warp_sum(delta);
  Keys extra;
  float weight = 0, top = -INFINITY, total = 0, along = 0;
  if (!a.branch.joint && extra_keys(a.branch, a.tasks, b, a.d, head * a.width, &extra, &weight)) {
    for (int64_t j = 0; j < extra.count; ++j) {
      float score = 0, value = 0;
      for (int64_t c = lane; c < a.width; c += kWarp) {
        const float k = extra.k.at(extra.k_at + j * extra.stride + c),
                    v = extra.v.at(extra.v_at + j * extra.stride + c);
        score = fmaf(q.at(q_at + c), rounded ? widen(narrow(k)) : k, score);
        value = fmaf(dy.at(at + c), rounded ? widen(narrow(v)) : v, value);
      }
      score = a.scale * warp_sum(score), value = warp_sum(value);
      const float high = fmaxf(top, score), old = fast_exp2(kLog2E * (top - high)),
                  p = fast_exp2(kLog2E * (score - high));
      total = total * old + p, along = along * old + p * value, top = high;
    }
    along /= total;
    delta -= weight * along;
  }
  if (lane != 0) return;
  g.statistics.delta[to] = delta;
  if (g.statistics.extra_lse == nullptr) return;
  g.statistics.extra_lse[to] = top + logf(total);
  g.statistics.extra_delta[to] = along;
}

struct SumSamples {
  const float* each;  // [batch, l, d]
  const int32_t* index;
  int64_t batch, length, d;
  Output to;
  __device__ void operator()(int64_t row, int64_t i, int n) const {
    const int64_t task = row / length, slot = row % length;
    float total[kLanes] = {}, v[kLanes];
    for (int64_t b = 0; b < batch; ++b) {
      if ((index != nullptr ? index[b] : 0) != task) continue;
      Input{each, CB_F32}.load((b * length + slot) * d + i, n, v);
#pragma unroll
      for (int j = 0; j < kLanes; ++j) total[j] += v[j];
    }
    to.store(row * d + i, n, total);
  }
};

}  // namespace

int sum_branch(CbContext* context, const AttentionBranch& branch, const AttentionBranchGrads& g, int64_t batch,
               int64_t d, const float* keys, const float* values) {
  const auto sum = [&](const float* each, float* to, int32_t accumulate) {
    if (to == nullptr) return int(CB_OK);
    return for_rows(context, branch.tasks * branch.length, d,
                    SumSamples{each, branch.index, batch, branch.length, d, {to, CB_F32, accumulate}});
  };
  if (const int status = sum(keys, g.dkeys, g.dkeys_accumulate)) return status;
  return sum(values, g.dvalues, g.dvalues_accumulate);
}

int attention_forward(CbContext* context, const attention_args* f) {
  if (f->m == 0 || f->d == 0) return CB_OK;
  if (f->batch == 0 || f->max_tokens == 0) {  // no block would look at the offsets
    if (context->message != nullptr)
      snprintf(context->message, 255, "expected offsets that end at the number of rows, %lld, got %lld samples of at most %lld",
               (long long)f->m, (long long)f->batch, (long long)f->max_tokens);
    return CB_INDEX;
  }
  const Attention a = shape_of(context, *f);
  return (fits_tensor_cores(a) ? forward_bf16 : forward_plain)(context, a, f->y, f->lse);
}

int attention_backward(CbContext* context, const attention_grads* g) {
  const attention_args& f = *g->f;
  const Attention a = shape_of(context, f);
  const bool branch = f.branch.length > 0 && (g->branch.dkeys != nullptr || g->branch.dvalues != nullptr);
  const int64_t rows = f.heads * f.m, each = branch ? f.batch * f.branch.length * f.d : 0;
  float* const floats = static_cast<float*>(context->scratch(context, size_t(3 * rows + 2 * each + 1) * sizeof(float)));
  if (floats == nullptr) return CB_OUT_OF_MEMORY;
  const bool separate = f.branch.length > 0 && !f.branch.joint;
  AttentionGradients to{
      f.y, g->dy, g->dqkv, {f.lse, floats, separate ? floats + rows : nullptr, floats + 2 * rows}, nullptr, nullptr};
  if (branch) {
    to.extra_keys = floats + 3 * rows, to.extra_values = to.extra_keys + each;
    const fill_args zero{2 * each * int64_t(sizeof(float)), 0, to.extra_keys};
    if (const int status = fill(context, &zero)) return status;
  }
  if (f.m > 0 && f.d > 0) {
    const bool tensor_cores = fits_tensor_cores(a);
    const auto statistics = [&](const Attention& part, dim3 grid) {
      return CB_LAUNCH(context, statistics_kernel, grid, dim3(kThreads), 0, part, to, tensor_cores);
    };
    if (const int status = over_samples(a, divide_up(f.max_tokens, kRowsPerBlock), statistics)) return status;
    if (const int status = (tensor_cores ? backward_bf16 : backward_plain)(context, a, to)) return status;
  }
  return branch ? sum_branch(context, f.branch, g->branch, f.batch, f.d, to.extra_keys, to.extra_values) : int(CB_OK);
}

}  // namespace cuda
}  // namespace cambium

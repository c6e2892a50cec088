// What the kernels of attention share: which rows a block works on, and where keys and values come from. See args.h for
// the contract; attention.cu chooses between the kernels on tensor cores (attention_bf16_*.cu) and the plain ones.
#pragma once
#include "cuda/activation.h"
#include "cuda/checked.h"
#include "cuda/element.h"

namespace cambium {
namespace cuda {

// Keys and values of one head: element c of key j is k.at(k_at + j · stride + c).
struct Keys {
  Input k, v;
  int64_t k_at, v_at, stride, count;
};

// Samples, heads and the branch of a launch; the same for attention and its gradients.
struct Attention {
  int64_t batch, m, d, heads, width, max_tokens;
  const void* qkv;
  int32_t type, causal;
  float scale;  // 1 / √K
  const int32_t* offsets;
  AttentionBranch branch;
  IndexCheck rows, tasks;

  int64_t from;  // the launch's first sample; blocks lie along x, heads along y, samples along z

  // Rows of sample b; false when offsets are wrong.
  __device__ bool sample(int64_t b, int64_t* first, int64_t* count) const {
    return rows.sample(offsets, b, batch, m, max_tokens, first, count);
  }
  // Element (row, column of the head) of q; k and v are d and 2 d further.
  __device__ int64_t query_at(int64_t row, int64_t head) const { return row * 3 * d + head * width; }
  __device__ Keys own_keys(int64_t first, int64_t count, int64_t head) const {
    const int64_t at = query_at(first, head);
    return {{qkv, type}, {qkv, type}, at + d, at + 2 * d, 3 * d, count};
  }
};

// launch(part, grid) with `blocks` for every head of every sample: once, or for each 65,535 samples, no more fit into a grid.
template <class F>
int over_samples(const Attention& a, int64_t blocks, const F& launch) {
  constexpr int64_t kMost = 65535;
  for (Attention part = a; part.from < a.batch; part.from += kMost) {
    const dim3 grid(unsigned(blocks), unsigned(a.heads), unsigned(smaller(a.batch - part.from, kMost)));
    if (const int status = launch(part, grid)) return status;
  }
  return CB_OK;
}

// The extra keys of sample b and the weight of their softmax; false when it has none.
__device__ inline bool extra_keys(const AttentionBranch& branch, const IndexCheck& tasks, int64_t b, int64_t d,
                                  int64_t column, Keys* keys, float* weight) {
  if (branch.length == 0) return false;
  const int32_t task = branch.index != nullptr ? branch.index[b] : 0;
  if (!tasks.in_range(task, branch.tasks, b)) return false;
  *weight = branch.weight != nullptr && !branch.joint ? branch.weight[b] : 1.f;
  if (*weight == 0) return false;
  const int64_t at = task * branch.length * d + column;
  *keys = {{branch.keys, CB_F32}, {branch.values, CB_F32}, at, at, d, branch.length};
  return true;
}

// A softmax of its own over one key: always 1, and nothing flows back through it. Said, not left to roundings.
__device__ inline bool constant(const AttentionBranch& branch) { return branch.length == 1 && !branch.joint; }

// What a block works on: queries or keys from `start` on of a head of sample b, whose `count` rows begin at `first`.
struct Work {
  int64_t b, head, first, count, start;
};

// The statistics of one softmax over the queries of a head and sample, and the weight of its result.
struct Side {
  const float *lse, *delta;
  float weight;
};

// What backward recomputes of every query, all [heads, m]: δ of its softmax, and of a separate branch lse and δ.
struct Statistics {
  const float* lse;
  float *delta, *extra_lse, *extra_delta;

  // `at`: the first query of the head and sample.
  __device__ Side own(int64_t at) const { return {lse + at, delta + at, 1.f}; }
  __device__ Side of_branch(const AttentionBranch& branch, int64_t at, float weight) const {
    return {(branch.joint ? lse : extra_lse) + at, (branch.joint ? delta : extra_delta) + at, weight};
  }
};

// Gradients of one launch. extra: of each sample, [batch, length, d] for keys, then for values; null: not wanted.
struct AttentionGradients {
  const void *y, *dy;
  void* dqkv;
  Statistics statistics;
  float *extra_keys, *extra_values;
};

bool fits_tensor_cores(const Attention& a);  // bf16, whole 16-byte chunks
int forward_bf16(CbContext* context, const Attention& a, void* y, float* lse);
int backward_bf16(CbContext* context, const Attention& a, const AttentionGradients& g);
int forward_plain(CbContext* context, const Attention& a, void* y, float* lse);
int backward_plain(CbContext* context, const Attention& a, const AttentionGradients& g);

// dkeys and dvalues [T, l, D] from the samples' own: those of each task in order of b.
int sum_branch(CbContext* context, const AttentionBranch& branch, const AttentionBranchGrads& g, int64_t batch,
               int64_t d, const float* keys, const float* values);

}  // namespace cuda
}  // namespace cambium

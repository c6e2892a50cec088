// Arguments and formulas of attention and pooled_attention; a part of args.h, whose head says how they are to be read.
#pragma once
#include "ops/abi.h"

#ifdef __cplusplus
extern "C" {
#endif

// ---- attention ------------------------------------------------------------------------------------------------------
// Ragged multi-head attention. qkv [M,3D] packed (q|k|v), sample b owns rows [offsets[b], offsets[b+1]).
// y_h = softmax(q_h k_hᵀ / √K [+ causal mask]) v_h, D = H·K, K <= 128. lse [H,M] f32: log of the softmax's denominator
// (scaled scores), saved for backward. max_tokens: an upper bound of a sample's length, known to the host.
//
// A branch adds l extra keys and values that every query of a sample sees, whatever `causal` says; sample b has those of
// task index[b], K_r and V_r [l,D]:
//   separate: y_h += weight[b] · softmax(q_h K_r,hᵀ / √K) V_r,h, a softmax of its own (residual attention). A weight
//             of exactly 0 means that sample b has no branch: K_r and V_r are not read, and no gradient comes from it.
//   joint:    y_h = softmax(q_h [K_r,h; k_h]ᵀ / √K) [V_r,h; v_h], one softmax over both (prefix tuning); lse is of both.
// Zero V_r, and a weight of zero, give the bits of attention without a branch; so do the gradients of qkv (separate).
typedef struct AttentionBranch {
  int64_t tasks, length;       // T, l; length 0: there is no branch
  const float *keys, *values;  // [T,l,D]
  const int32_t* index;        // [B] in [0,T), else CB_INDEX; null: task 0 for every sample
  const float* weight;         // [B]; null: 1. Of the separate softmax alone
  int32_t joint;
} AttentionBranch;
// Sums over the samples of each task in order of b, zeros for a task that no sample has; null: not wanted.
typedef struct AttentionBranchGrads {
  float *dkeys, *dvalues;  // [T,l,D]
  int32_t dkeys_accumulate, dvalues_accumulate;
} AttentionBranchGrads;
typedef struct attention_args {
  int64_t batch, m, d, heads, max_tokens;
  const void* qkv;
  int32_t type;  // of qkv, y, dy and dqkv
  int32_t causal;
  const int32_t* offsets;  // [batch + 1]; the kernel checks that they ascend from 0 to m
  void* y;
  float* lse;
  AttentionBranch branch;
} attention_args;
typedef struct attention_grads {
  const attention_args* f;  // y holds the saved result where the table's attention_reads_y says so; else it is null
  const void* dy;
  void* dqkv;  // [M,3D], overwritten; null where only the branch trains
  AttentionBranchGrads branch;
} attention_grads;

// ---- pooled_attention -----------------------------------------------------------------------------------------------
// Attention of one query row of each sample: q [B,D], kv [M,2D] packed (k|v), sample b owns rows [offsets[b],
// offsets[b+1]) of kv and row[b] is the place of its query there. The row of attention's result that belongs to it:
//   y_h[b] = softmax(q_h[b] k_hᵀ / √K) v_h over the sample's keys, with `causal` those up to row[b].  D = H·K
// Nothing is saved: backward computes the softmax again. A branch is attention's, of that one query.
typedef struct pooled_attention_args {
  int64_t batch, m, d, heads;
  const void *q, *kv;
  int32_t type;  // of q, kv, y and their gradients
  int32_t causal;
  const int32_t *offsets, *row;  // [batch + 1], ascending from 0 to m; [batch]: else CB_INDEX
  void* y;                       // [B,D]
  AttentionBranch branch;
} pooled_attention_args;
typedef struct pooled_attention_grads {
  const pooled_attention_args* f;
  const void* dy;
  void *dq, *dkv;  // rows of dkv that no query saw are zeros
  int32_t dq_accumulate, dkv_accumulate;
  AttentionBranchGrads branch;
} pooled_attention_grads;

#ifdef __cplusplus
}
#endif

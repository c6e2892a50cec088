// Arguments of every op of the Backend table, with the op's formulas. Shape letters: B samples, N tokens of one sample,
// M packed rows, D width, H heads, K head width, P projection width, V vocabulary. `*_type` is one of CB_F32, CB_BF16.
// In each pair, `<op>_args` is what forward needs (results last) and `<op>_grads` what backward needs: the forward
// arguments by pointer, dy, then the wanted gradients (null: not wanted), each with its accumulate flag.
// Attention, with and without pooling, has its arguments in attention_args.h.
#pragma once
#include "ops/attention_args.h"

#ifdef __cplusplus
extern "C" {
#endif

// ---- linear -------------------------------------------------------------------------------------------------------
// y = act(column_scale ∘ (gate · (x Wᵀ) + Σ_d Δ_d) + bias) + residual + skip        x [M,in], y [M,out]
// W is [out,in], or with `transposed` [in,out] (y = x W). Operands of the product are rounded to x_type (bf16 or f32)
// with f32 accumulation. gate: f32 scalar in device memory; at zero the product is skipped (bias, residual, skip remain)
// and the gradients of W are written as zeros. Bias is f32 and stands outside the gate.
// Δ_d = scale · (x_d Aᵀ Bᵀ + bias_d) in the columns [column, column + out_d), zero elsewhere; x_d is x or a tensor of its
// own (dropout). A [T,R,in], B [T,out_d,R], bias_d [T,out_d], scale [T]: one adapter, or with an index T of them; the rows
// of sample b take adapter index[b], or none where it is -1. Never together with a gate.
// pre [M,out] (x_type): act's argument, saved when act != none and a gradient will be asked for. May be null.
// between [M, Σ (R + 1 if bias_d)]: scale · (x_d Aᵀ | 1) of every delta, those that read x first; saved when a B or a
// bias_d trains. product [M,out] (x_type): column_scale's argument, saved when that trains. May be null.
typedef struct CbLowRank {
  const float *a, *b, *bias, *scale;  // bias may be null
  const void* x;                      // [M,in] of x_type, or null
  int64_t rank, column, out;
} CbLowRank;
typedef struct linear_args {
  int64_t m, in, out;
  const void *x, *w;
  int32_t x_type, w_type;
  int32_t transposed;
  int32_t act;
  const float *bias, *gate, *column_scale;
  const void *residual, *skip;  // [M,out]; never together with act
  int32_t residual_type, skip_type;
  int64_t deltas, adapters, samples;
  const CbLowRank* low_rank;         // [deltas], host memory, valid during the call
  const int32_t *index, *offsets;    // [samples] (out of range: CB_INDEX), [samples + 1]; null: adapter 0 everywhere
  uint64_t w_version;
  CbPack *pack_forward, *pack_backward;  // beside w; null: do not keep
  void *y, *pre, *product;
  float* between;
  int32_t y_type;
} linear_args;
// dpre = dy ⊙ act'(pre);  dcolumn_scale (+)= column sums of dpre ⊙ product;  dz = dpre ∘ column_scale;
// dx (+)= gate · dz W + Σ_d ds_d A_d [+ dy when skip_is_x],  ds_d = scale · dz[columns of d] B_d;  dx_d (+)= ds_d A_d;
// dw (+)= gate · dzᵀ x (in W's own layout);  dA_d (+)= ds_dᵀ x_d,  dB_d (+)= dzᵀ between_d,  of the rows of each adapter
// (zeros for one that no sample has);  dbias (+)= column sums of dpre.
typedef struct CbLowRankGrads {
  float *da, *db, *dbias;
  void* dx;  // of x_d
  int32_t da_accumulate, db_accumulate, dbias_accumulate, dx_type, dx_accumulate;
} CbLowRankGrads;
typedef struct linear_grads {
  const linear_args* f;  // y may be null here; x null when neither dw nor the dA of a delta that reads x is wanted
  const void* dy;
  int32_t dy_type;
  void* dx;  // dx_type; [M,in]
  int32_t dx_type, dx_accumulate, skip_is_x;
  float* dw;
  int32_t dw_accumulate;
  float *dbias, *dcolumn_scale;
  int32_t dbias_accumulate, dcolumn_scale_accumulate;
  const CbLowRankGrads* low_rank;  // [deltas], as f->low_rank
  int32_t pre_is_free;             // nobody reads f->pre after this: it may be written over
} linear_grads;

// ---- layer_norm -----------------------------------------------------------------------------------------------------
// y = x̂ · weight + bias, x̂ = (x − μ) · r, r = 1/√(σ² + eps), statistics over D in f32.
// normalized: x̂ [M,D] in y's type, and rstd: r [M] f32, saved: x itself need not be kept.
typedef struct layer_norm_args {
  int64_t m, d;
  const void* x;
  int32_t x_type;
  const float *weight, *bias;  // bias may be null
  float eps;
  void* y;
  int32_t y_type;
  void* normalized;  // y_type; this and rstd null when no gradient is wanted
  float* rstd;
} layer_norm_args;
typedef struct layer_norm_grads {
  const layer_norm_args* f;
  const void* dy;  // y_type
  void* dx;
  int32_t dx_type, dx_accumulate;
  float *dweight, *dbias;
  int32_t dweight_accumulate, dbias_accumulate;
} layer_norm_grads;

// ---- patchify: pixels [B,C,S_h,S_w] f32 -> y [B·N, C·p·p] (c, row, column), N = (S_h/p)(S_w/p) -----------------------
typedef struct patchify_args {
  int64_t batch, channels, height, width, patch;
  const float* pixels;
  void* y;
  int32_t y_type;
} patchify_args;
typedef struct patchify_grads {
  const patchify_args* f;
  const void* dy;
  float* dx;
  int32_t dx_accumulate;
} patchify_grads;

// ---- class_tokens: y[b,0] = cls + position[0]; y[b,1+n] = x[b,n] + position[1+n];  x [B·N,D], position [N+1,D] --------
typedef struct class_tokens_args {
  int64_t batch, n, d;
  const void* x;
  int32_t x_type;
  const float *cls, *position;
  float* y;  // [B·(N+1), D]
} class_tokens_args;
typedef struct class_tokens_grads {
  const class_tokens_args* f;
  const float* dy;
  void* dx;
  int32_t dx_type, dx_accumulate;
  float *dcls, *dposition;
  int32_t dcls_accumulate, dposition_accumulate;
} class_tokens_grads;

// ---- token_embed: y[i] = table[ids[i]] + position[positions[i]];  table [V,D], position [L,D], y [M,D] f32 ------------
typedef struct token_embed_args {
  int64_t m, d, vocabulary, length;
  const int32_t *ids, *positions;  // [M]; out of range: CB_INDEX
  const void* table;
  int32_t table_type;  // CB_F16 besides, for a table that does not train
  const float* position;
  float* y;
} token_embed_args;
typedef struct token_embed_grads {
  const token_embed_args* f;
  const float* dy;
  float *dtable, *dposition;
  int32_t dtable_accumulate, dposition_accumulate;
} token_embed_grads;

// ---- gather_rows: y[i] = x[index[i]];  x [rows,D], index [M] ----------------------------------------------------------
typedef struct gather_rows_args {
  int64_t m, rows, d;
  const void* x;
  int32_t type;
  const int32_t* index;  // out of range: CB_INDEX
  void* y;
} gather_rows_args;
typedef struct gather_rows_grads {  // dx[index[i]] += dy[i], added in order of i
  const gather_rows_args* f;
  const void* dy;  // f->type
  void* dx;
  int32_t dx_type, dx_accumulate;
} gather_rows_grads;

// ---- scale_rows: y[i] = x[i] · factor[i / repeat % factors];  no gradient to factor -----------------------------------
// (repeat rows share a factor: drop path per sample; factors < M cycle: a mask per token shared by the batch)
typedef struct scale_rows_args {
  int64_t m, d, factors, repeat;
  const void* x;
  int32_t type;
  const float* factor;
  void* y;
} scale_rows_args;
typedef struct scale_rows_grads {
  const scale_rows_args* f;
  const void* dy;
  void* dx;
  int32_t dx_accumulate;
} scale_rows_grads;

// ---- l2_normalize: y = x / max(‖x‖, 1e-12) row by row, f32; inverse [M] saved -----------------------------------------
typedef struct l2_normalize_args {
  int64_t m, d;
  const float* x;
  float *y, *inverse;
} l2_normalize_args;
typedef struct l2_normalize_grads {
  const l2_normalize_args* f;  // y holds the saved result
  const float* dy;
  float* dx;
  int32_t dx_accumulate;
} l2_normalize_grads;

// ---- contrastive ------------------------------------------------------------------------------------------------------
// Symmetric multi-positive loss with margin and smoothing (MPM-NCE; R-Adapter §3.3, references/methods §5):
//   z_ij = (f_i·g_j + margin·[labels_i ≠ labels_j]) · s,  s = *scale (f32, device) or, when log_scale, exp(*scale)
//   ỹ_ij = (1−ε)/|P(i)| where labels agree, ε/(N−|P(i)|) elsewhere (ε counts as 0 for a row without negatives)
//   loss = −1/2N Σ_ij ỹ_ij [ log softmax_j z_ij + log softmax_i z_ij ]    (the same ỹ both ways, as in the paper's code)
// f, g [N,P] f32, already normalised. Labels agree as integers. InfoNCE: labels 0…N−1, margin 0, ε 0.
// N >= 1. Nothing N×N is kept: row_lse, column_lse [N], the log-sum-exps of z along each, are all that backward needs.
typedef struct contrastive_args {
  int64_t n, p;
  const float *image, *text;
  const int32_t* labels;
  const float* scale;
  int32_t log_scale;
  float margin, epsilon;
  float *row_lse, *column_lse;
  float* loss;  // [1]
} contrastive_args;
typedef struct contrastive_grads {
  const contrastive_args* f;
  const float* dy;  // [1]
  float *dimage, *dtext, *dscale;  // dscale: with respect to *scale itself
  int32_t dimage_accumulate, dtext_accumulate, dscale_accumulate;
} contrastive_grads;

// ---- cross_entropy ----------------------------------------------------------------------------------------------------
// z = s · logits / T,  s = *scale (f32, device; null: 1) or, when log_scale, exp(*scale);  T = temperature
// loss = T² · 1/N Σ_i CE(target_i, softmax(z_i)),  CE = Σ_c target_ic (log Σ_j exp z_ij − z_ic)
// target_i = (1−ε) · onehot(labels_i) + ε/C  (label smoothing, Szegedy et al. 2016), or softmax(s · teacher_i / T), a
// constant to the gradient (distillation, Hinton et al. 2015). Exactly one of labels and teacher. N = 0: the loss is 0.
// lse, teacher_lse [N]: log-sum-exp of z_i and of s · teacher_i / T, saved for backward. Sums over rows are f64, in order.
typedef struct cross_entropy_args {
  int64_t n, c;
  const float* logits;    // [N,C]
  const int32_t* labels;  // [N] in [0,C), else CB_INDEX
  const float* teacher;   // [N,C]
  const float* scale;
  int32_t log_scale;
  float smoothing, temperature;
  float *lse, *teacher_lse;  // teacher_lse: null with labels
  float* loss;               // [1]
} cross_entropy_args;
// dz = dy · T² / N · (softmax(z) − target);  dlogits = s/T · dz;  d*scale = Σ dz ⊙ logits / T · ds/d*scale
typedef struct cross_entropy_grads {
  const cross_entropy_args* f;
  const float* dy;  // [1]
  float *dlogits, *dscale;
  int32_t dlogits_accumulate, dscale_accumulate;
} cross_entropy_grads;

// ---- sum: y[0] = factor · Σ x,  in f64, fixed order --------------------------------------------------------------------
typedef struct sum_args {
  int64_t count;
  const void* x;
  int32_t type;
  float factor;
  float* y;
} sum_args;
typedef struct sum_grads {
  const sum_args* f;
  const float* dy;
  void* dx;
  int32_t dx_accumulate;
} sum_grads;

// ---- add: y = a + b;  multiply: y = a ⊙ b;  same shape ------------------------------------------------------------------
typedef struct add_args {
  int64_t count;
  const void *a, *b;
  int32_t a_type, b_type;
  void* y;
  int32_t y_type;
} add_args;
typedef struct add_grads {
  const add_args* f;
  const void* dy;
  int32_t dy_type;
  void *da, *db;
  int32_t da_type, db_type, da_accumulate, db_accumulate;
} add_grads;
typedef add_args multiply_args;
typedef struct multiply_grads {
  const multiply_args* f;
  const void* dy;
  int32_t dy_type;
  void *da, *db;
  int32_t da_type, db_type, da_accumulate, db_accumulate;
} multiply_grads;

// ---- scale: y = s · x, s a f32 scalar in device memory;  ds = Σ dy ⊙ x (f64 partial sums, fixed order) -------------------
typedef struct scale_args {
  int64_t count;
  const void* x;
  int32_t type;
  const float* s;
  void* y;
} scale_args;
typedef struct scale_grads {
  const scale_args* f;
  const void* dy;
  void* dx;
  int32_t dx_accumulate;
  float* ds;
  int32_t ds_accumulate;
} scale_grads;

// ---- low_rank_norm: y_i = ‖W_i + s (B A)_i‖ for rows [row, row + m) of W [*, in], or its inverse; no gradient ----------
// From ‖W_i‖² + 2 s ⟨B_i, W_i Aᵀ⟩ + s² B_i A Aᵀ B_iᵀ: B A is not formed. A [R,in], B [m,R], s = *scale. B null: ‖W_i‖.
typedef struct low_rank_norm_args {
  int64_t m, in, rank, row;
  const void* w;
  int32_t w_type, inverse;
  const float *a, *b, *scale;
  float* y;  // [m]
} low_rank_norm_args;
// ---- dropout: y = x ∘ keep / (1 − p), keep ~ Bernoulli(1 − p) by (seed, step, site, key of the sample, element) ---------
// Sample b owns rows [offsets[b], offsets[b+1]); its draws depend on its key and on the place in it alone. step[0] and the
// two halves of the seed, step[1] and step[2], are in device memory, so that a step can be captured.
typedef struct dropout_args {
  int64_t m, d, samples;
  const void* x;
  int32_t type, site;
  float p;
  const int32_t *offsets, *keys, *step;  // [samples + 1], [samples], [3]
  void* y;
} dropout_args;
typedef struct dropout_grads {
  const dropout_args* f;
  const void* dy;  // f->type
  void* dx;
  int32_t dx_accumulate;
} dropout_grads;

// ---- forward only --------------------------------------------------------------------------------------------------------
// cast between f32, bf16, f16 (round to nearest even); accumulate adds into y.
typedef struct cast_args {
  int64_t count;
  const void* x;
  int32_t x_type, y_type, accumulate;
  void* y;
} cast_args;
typedef struct fill_args {
  int64_t bytes;
  uint8_t value;  // 0 in practice
  void* y;
} fill_args;
typedef struct copy_args {
  int64_t bytes;
  const void* x;
  void* y;
} copy_args;
// interpolate: y = (1−t)·a + t·b in f32, rounded once to y_type (WiSE-FT, EMA of whole models)
typedef struct interpolate_args {
  int64_t count;
  const void *a, *b;
  int32_t a_type, b_type, y_type;
  float t;
  void* y;
} interpolate_args;

// One parameter of the optimizer: f32 master, gradient and state, all [count]. With an anchor its gradient counts as
// gradient + 2·pull·(value − anchor), of which the loss is pull·Σ(value − anchor)²: everywhere below.
typedef struct CbParameter {
  int64_t count;
  float* value;
  const float* gradient;
  float *m, *v;        // sgd: v null; m null without momentum
  float* average;      // EMA of value, or null
  float decay;         // weight decay of its group
  float lr_scale;      // multiplies the learning rate of its group
  const float* anchor;  // or null
  float pull;
} CbParameter;
// squared_norm: y[0] = Σ over parameters of Σ gradient², f64 partial sums in fixed order, as f32
typedef struct squared_norm_args {
  int64_t parameters;
  const CbParameter* list;  // host memory, valid during the call
  float* y;
} squared_norm_args;
// AdamW (Loshchilov & Hutter 2019) with EMA in the same pass.
//   g = gradient · min(1, max_norm / (√norm² + 1e-6));  value *= 1 − lr·decay;  m, v as usual;
//   value −= lr / c1 · m / (√(v / c2) + eps),  c1 = 1 − β1^t, c2 = 1 − β2^t;  average = μ·average + (1−μ)·value
// schedule: f32 [4] in device memory: lr, c1, c2, μ.  norm2: f32 [1] or null (no clipping).
typedef struct adamw_args {
  int64_t parameters;
  const CbParameter* list;
  const float *schedule, *norm2;
  double beta1, beta2;  // as 1 − β2 in f32 would lose 1e-5 of it
  float eps, max_norm;
} adamw_args;
// SGD as in PyTorch (coupled decay, no dampening), with EMA in the same pass.
//   g = gradient · min(1, max_norm / (√norm² + 1e-6)) + decay · value;  m = momentum · m + g (without m: g itself);
//   value −= lr · m;  average = μ·average + (1−μ)·value
// schedule: f32 [2] in device memory: lr, μ.  norm2: as of adamw.
typedef struct sgd_args {
  int64_t parameters;
  const CbParameter* list;
  const float *schedule, *norm2;
  float momentum, max_norm;
} sgd_args;

#ifdef __cplusplus
}
#endif

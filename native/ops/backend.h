// The table of everything a device can do: one {forward, backward} entry per op behind a C ABI.
//
// Plain structs, plain pointers, status codes; no exception and no STL type crosses. All tensors are contiguous and
// row-major; pointers are device memory. The caller (ops/*.cc) has checked shapes and types and allocated every result,
// so a kernel checks nothing but indices read from device memory. An entry only enqueues (CUDA) or runs on the stream's
// own thread (CPU). A null result pointer means: do not compute it. Gradients of a result carry `accumulate` flags: with
// the flag the kernel adds to what is there, without it the kernel overwrites.
//
// Adding an op: its arguments and formulas in ops/args.h, one word in CAMBIUM_OPS, kernels in cpu/foo.cc, cuda/foo.cu.
#pragma once
#include "ops/args.h"

#ifdef __cplusplus
extern "C" {
#endif

// Ops with a backward, and those without.
#define CAMBIUM_OPS(X)                                                                                         \
  X(linear) X(layer_norm) X(attention) X(pooled_attention) X(patchify) X(class_tokens) X(token_embed)          \
  X(gather_rows) X(scale_rows) X(l2_normalize) X(contrastive) X(cross_entropy) X(sum) X(add) X(multiply)       \
  X(scale) X(dropout)
#define CAMBIUM_FORWARD_OPS(X) X(cast) X(fill) X(copy) X(squared_norm) X(adamw) X(sgd) X(interpolate) X(low_rank_norm)

// An op as a device's kernels.h declares it, in a namespace of its own, and as its table lists it.
#define CB_DECLARE_OP(op)                         \
  int op##_forward(CbContext*, const op##_args*); \
  int op##_backward(CbContext*, const op##_grads*);
#define CB_DECLARE_FORWARD_OP(op) int op(CbContext*, const op##_args*);
#define CB_OP_ENTRIES(op) op##_forward, op##_backward,
#define CB_FORWARD_OP_ENTRY(op) op,

enum { CB_ABI_VERSION = 5 };

typedef struct Backend {
  uint32_t version, size;  // CB_ABI_VERSION, sizeof(Backend)
  const char* name;        // "cpu", "cuda"
  const char* level;       // "avx512", "sm_90a": what is in force
  int32_t attention_reads_y;  // attention_backward reads y: it must be kept until then
#define X(op)                                       \
  int (*op##_forward)(CbContext*, const op##_args*); \
  int (*op##_backward)(CbContext*, const op##_grads*);
  CAMBIUM_OPS(X)
#undef X
#define X(op) int (*op)(CbContext*, const op##_args*);
  CAMBIUM_FORWARD_OPS(X)
#undef X
} Backend;

#ifdef __cplusplus
}
#endif

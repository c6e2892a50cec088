// The ops of the core: each checks its contract (formulas in ops/args.h), allocates its results, queues the kernel and
// records itself on the tape. None knows a device. Optional tensors are null when absent.
#pragma once
#include <vector>

#include "core/session.h"

namespace cambium {

struct LowRankOptions {
  Tensor a, b, scale, bias, x;
  int64_t column = 0;
};
struct LinearOptions {
  Tensor bias, gate, residual, skip, column_scale, index, offsets;
  std::vector<LowRankOptions> low_rank;
  int activation = CB_ACT_NONE;
  bool transposed = false;  // w is [in, out]
  DType out = DType::f32;
};
Tensor linear(Session&, const Tensor& x, const Tensor& w, const LinearOptions&);
Tensor layer_norm(Session&, const Tensor& x, const Tensor& weight, const Tensor& bias, double eps, DType out);
struct BranchOptions {  // extra keys and values [T,l,D]; none: no branch
  Tensor keys, values, index, weight;
  bool joint = false;
};
Tensor attention(Session&, const Tensor& qkv, const Tensor& offsets, int64_t heads, int64_t max_tokens, bool causal, const BranchOptions&);
// causal: keys up to the sample's row
Tensor pooled_attention(Session&, const Tensor& q, const Tensor& kv, const Tensor& offsets, const Tensor& row, int64_t heads, bool causal,
                        const BranchOptions&);
Tensor patchify(Session&, const Tensor& pixels, int64_t patch, DType out);
Tensor class_tokens(Session&, const Tensor& x, const Tensor& cls, const Tensor& position, int64_t batch);
Tensor token_embed(Session&, const Tensor& ids, const Tensor& positions, const Tensor& table, const Tensor& position);
Tensor gather_rows(Session&, const Tensor& x, const Tensor& index);
Tensor scale_rows(Session&, const Tensor& x, const Tensor& factor, int64_t repeat);
Tensor l2_normalize(Session&, const Tensor& x);
Tensor contrastive(Session&, const Tensor& image, const Tensor& text, const Tensor& labels, const Tensor& scale, bool log_scale, double margin,
                   double epsilon);
struct CrossEntropyOptions {
  Tensor labels, teacher, scale;  // one of the first two; scale may be null
  bool log_scale = false;
  double smoothing = 0, temperature = 1;
};
Tensor cross_entropy(Session&, const Tensor& logits, const CrossEntropyOptions&);
Tensor sum(Session&, const Tensor& x, double factor);
Tensor add(Session&, const Tensor& a, const Tensor& b, DType out);
Tensor multiply(Session&, const Tensor& a, const Tensor& b, DType out);
Tensor scale(Session&, const Tensor& x, const Tensor& s);
Tensor reshape(Session&, const Tensor& x, const Shape& shape);
Tensor slice_rows(Session&, const Tensor& x, int64_t first, int64_t count);  // x's memory: [first, first + count) of its first dimension
Tensor cast(Session&, const Tensor& x, DType out);
Tensor concat_rows(Session&, const std::vector<Tensor>& parts);  // [Σ M, D] of one type and width

Tensor dropout(Session&, const Tensor& x, const Tensor& offsets, const Tensor& keys, const Tensor& state, int64_t site, double p);

// Without gradients.
// Row norms (or their inverses) of rows [row, row + m) of w + scale · b a; m rows of w where a, b and scale are null.
Tensor low_rank_norm(Session&, const Tensor& w, const Tensor& a, const Tensor& b, const Tensor& scale, int64_t row, int64_t m, bool inverse);
Tensor interpolate(Session&, const Tensor& a, const Tensor& b, double t, DType out);
void copy_into(Session&, const Tensor& from, const Tensor& to);

struct OptimizerEntry {
  Tensor parameter, m, v, average, anchor;  // average and anchor may be null; in sgd also v, and m without momentum
  double decay = 0, lr_scale = 1, pull = 0;
};
struct AdamWOptions {
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8, max_norm = 0;  // max_norm 0: no clipping
};
// schedule: f32 [4] lr, 1 − β1^t, 1 − β2^t, EMA momentum. Returns ‖gradient‖² [1]. Parameters without a gradient take
// part with a zero one. Gradients are dropped.
Tensor adamw(Session&, const std::vector<OptimizerEntry>& entries, const Tensor& schedule, const AdamWOptions&);
struct SgdOptions {
  double momentum = 0, max_norm = 0;
};
// The same; schedule: f32 [2] lr, EMA momentum.
Tensor sgd(Session&, const std::vector<OptimizerEntry>& entries, const Tensor& schedule, const SgdOptions&);

// Checks shared by ops. `op` leads every message.
void expect_type(const char* op, const char* name, const Tensor& t, DType type);
void expect_float(const char* op, const char* name, const Tensor& t);  // f32 or bf16
void expect_shape(const char* op, const char* name, const Tensor& t, const Shape& shape);
inline int32_t code(DType type) { return static_cast<int32_t>(type); }
inline int32_t type_of(const Slot& slot) { return slot.gradient ? code(slot.gradient->dtype) : CB_F32; }

}  // namespace cambium

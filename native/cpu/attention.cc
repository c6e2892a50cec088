// attention: ragged multi-head softmax attention and its gradient. See args.h for the contract.
//
// One task is one head of one sample; its panels live in the scratch memory of the thread that runs it. The mathematics
// is in attention_forward.cc and attention_backward.cc.
#include "cpu/attention.h"

#include <cstdio>

namespace cambium {
namespace CAMBIUM_LEVEL {
namespace {

AttentionShape shape_of(const attention_args& a) {
  AttentionShape s;
  s.kernel = &micro_kernel(Element(a.type));
  s.mr = s.kernel->mr;
  s.nr = s.kernel->nr;
  s.width = a.d / a.heads;
  s.keep = divide_up(s.width, s.mr) * s.mr;
  s.d = a.d;
  s.heads = a.heads;
  s.m = a.m;
  s.type = Element(a.type);
  s.scale = float(1.0 / __builtin_sqrt(double(s.width)));
  s.causal = a.causal != 0;
  return s;
}

int check_indices(CbContext* context, const attention_args& a) {
  const auto wrong = [&](const char* expected, int32_t got, int64_t i) {
    if (context->message != nullptr) {
      snprintf(context->message, 255, "attention: expected offsets %s, got %d at %lld", expected, got, (long long)i);
    }
    return CB_INDEX;
  };
  if (a.offsets[0] != 0) return wrong("that start at 0", a.offsets[0], 0);
  for (int64_t b = 0; b < a.batch; ++b) {
    const int64_t length = int64_t(a.offsets[b + 1]) - a.offsets[b];
    if (length < 0) return wrong("that ascend", a.offsets[b + 1], b + 1);
    if (length > a.max_tokens) return wrong("with at most max_tokens between them", a.offsets[b + 1], b + 1);
  }
  if (a.offsets[a.batch] != a.m) return wrong("that end at the number of rows", a.offsets[a.batch], a.batch);
  if (!branch_in_range(context, "attention index of extra keys", a.branch, a.batch)) return CB_INDEX;
  return CB_OK;
}

// f(head) for every head of every sample, spread over the pool; f returns false when it finds no memory.
template <class F>
int for_heads(const AttentionShape& s, const attention_args& a, const F& f) {
  int status = CB_OK;
  parallel_for(a.batch * s.heads, [&](int64_t task) {
    const int64_t sample = task / s.heads, index = task % s.heads;
    const Head head{a.offsets[sample], a.offsets[sample + 1] - a.offsets[sample], index * s.width, index, sample,
                    branch_of(a.branch, sample, a.d), a.branch.joint != 0};
    if (head.n == 0) return;
    if (s.kernel->enter != nullptr) s.kernel->enter();
    if (!f(head)) __atomic_store_n(&status, int(CB_OUT_OF_MEMORY), __ATOMIC_RELAXED);
    if (s.kernel->leave != nullptr) s.kernel->leave();
  });
  return status;
}

}  // namespace

int attention_forward(CbContext* context, const attention_args* f) {
  if (const int status = check_indices(context, *f)) return status;
  const AttentionShape s = shape_of(*f);
  return for_heads(s, *f, [&s, f](const Head& head) { return attention_forward_head(s, *f, head); });
}

int attention_backward(CbContext* context, const attention_grads* g) {
  const attention_args& a = *g->f;
  if (const int status = check_indices(context, a)) return status;
  const AttentionShape s = shape_of(a);
  BranchPartials partials;
  if (!take_partials(context, a.branch, g->branch, a.batch, a.d, &partials)) return CB_OUT_OF_MEMORY;
  const auto backward = [&](const Head& head) { return attention_backward_head(s, *g, partials, head); };
  if (const int status = for_heads(s, a, backward)) return status;
  const auto skip = [&a](int64_t b) { return a.offsets[b] == a.offsets[b + 1] || branch_of(a.branch, b, a.d).length == 0; };
  sum_partials(a.branch, partials.keys, a.batch, a.d, g->branch.dkeys, g->branch.dkeys_accumulate, skip);
  sum_partials(a.branch, partials.values, a.batch, a.d, g->branch.dvalues, g->branch.dvalues_accumulate, skip);
  return CB_OK;
}

}  // namespace CAMBIUM_LEVEL
}  // namespace cambium

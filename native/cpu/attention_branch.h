// The extra keys and values of attention and pooled_attention: those of one sample, and the sums of their gradients over
// samples. Each (sample, head) writes its own columns of a partial gradient; partials are added in order of the samples.
#pragma once
#include "cpu/elementwise.h"
#include "cpu/index.h"

namespace cambium {
namespace CAMBIUM_LEVEL {

// What one sample sees: keys and values [length, D] and their weight. length 0: nothing.
struct SampleBranch {
  const float *keys, *values;
  int64_t length;
  float weight;
};

inline SampleBranch branch_of(const AttentionBranch& b, int64_t sample, int64_t d) {
  const float weight = b.weight == nullptr ? 1.f : b.weight[sample];
  if (b.length == 0 || weight == 0) return {nullptr, nullptr, 0, 0};
  const int64_t at = (b.index == nullptr ? 0 : int64_t(b.index[sample])) * b.length * d;
  return {b.keys + at, b.values + at, b.length, weight};
}

inline bool branch_in_range(CbContext* context, const char* what, const AttentionBranch& b, int64_t batch) {
  return b.length == 0 || b.index == nullptr || indices_in_range(context, what, b.index, batch, b.tasks);
}

// Gradients of the keys and of the values of every sample, [batch][length][D] each; null where not wanted.
struct BranchPartials {
  float *keys, *values;
};

// false: no memory.
inline bool take_partials(CbContext* context, const AttentionBranch& b, const AttentionBranchGrads& g, int64_t batch,
                          int64_t d, BranchPartials* partials) {
  const size_t bytes = size_t(batch * b.length * d + 1) * sizeof(float);
  *partials = {nullptr, nullptr};
  if (g.dkeys != nullptr && (partials->keys = static_cast<float*>(context->scratch(context, bytes))) == nullptr) return false;
  return g.dvalues == nullptr || (partials->values = static_cast<float*>(context->scratch(context, bytes))) != nullptr;
}

// out[t] (+)= Σ over the samples of task t, in order; `skip(b)`: sample b has written nothing.
template <class F>
void sum_partials(const AttentionBranch& b, const float* partials, int64_t batch, int64_t d, float* out, bool accumulate,
                  const F& skip) {
  if (out == nullptr) return;
  constexpr int64_t kColumns = 1024;
  const int64_t size = b.length * d;
  parallel_for(divide_up(size, kColumns), [&](int64_t task) {
    const int64_t begin = task * kColumns, end = smaller(size, begin + kColumns);
    for (int64_t t = 0; !accumulate && t < b.tasks; ++t) {
      __builtin_memset(out + t * size + begin, 0, size_t(end - begin) * sizeof(float));
    }
    for (int64_t sample = 0; sample < batch; ++sample) {
      if (skip(sample)) continue;
      const Input from(partials + sample * size, CB_F32);
      const Output to(out + (b.index == nullptr ? 0 : int64_t(b.index[sample])) * size, CB_F32, true);
      for_lanes(begin, end, [&](int64_t i, int n) { to.put(i, from.at(i, n), n); });
    }
  });
}

}  // namespace CAMBIUM_LEVEL
}  // namespace cambium

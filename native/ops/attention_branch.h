// The extra keys and values of attention and pooled_attention: their checks, and their place on the tape.
#pragma once
#include "ops/ops.h"
#include "ops/target.h"

namespace cambium {

AttentionBranch branch_of(const char* op, const BranchOptions& o, int64_t batch, int64_t d);

// What backward remembers of a branch.
struct BranchVars {
  Var keys, values;
  Saved saved_keys, saved_values, saved_index, saved_weight;

  explicit BranchVars(const BranchOptions& o)
      : keys(o.keys), values(o.values), saved_keys(o.keys), saved_values(o.values), saved_index(o.index), saved_weight(o.weight) {}
  void check(const char* op) const {
    for (const Saved* saved : {&saved_keys, &saved_values, &saved_index, &saved_weight}) saved->get(op);
  }
  AttentionBranchGrads gradients(Gradients& g) const {
    const Slot dkeys = g.slot(keys), dvalues = g.slot(values);
    return {dkeys.data<float>(), dvalues.data<float>(), dkeys.accumulate, dvalues.accumulate};
  }
};

}  // namespace cambium

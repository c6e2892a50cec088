// What the optimizers share: the list of parameters that a kernel walks over, and when their gradients go.
#pragma once
#include "ops/ops.h"

namespace cambium {

// Parameters with their gradients (zeros where none has flowed), checked. Alive until the update is queued: what is
// allocated before that must not lie in the gradients.
class Update {
 public:
  Update(Session& s, const char* op, const std::vector<OptimizerEntry>& entries);
  // Queues squared_norm and then `step`: a struct of the backend's arguments with a list, a schedule and norm2, run by
  // `entry`. The gradients are dropped. Returns ‖gradient‖² [1].
  template <class Args>
  Tensor run(const std::vector<OptimizerEntry>& entries, int (*entry)(CbContext*, const Args*), Args step);

 private:
  Session& s_;
  const char* op_;
  std::vector<CbParameter> list_;
  std::vector<Tensor> gradients_;
};

template <class Args>
Tensor Update::run(const std::vector<OptimizerEntry>& entries, int (*entry)(CbContext*, const Args*), Args step) {
  Tensor norm2 = s_.empty({1}, DType::f32, op_);
  step.parameters = static_cast<int64_t>(list_.size());
  s_.stream().enqueue(op_, [entry, backend = &s_.backend(), list = std::move(list_), norm = norm2->data<float>(), step](CbContext* context) {
    const squared_norm_args n{step.parameters, list.data(), norm};
    if (int status = backend->squared_norm(context, &n)) return status;
    Args bound = step;
    bound.list = list.data();
    bound.norm2 = step.max_norm > 0 ? norm : nullptr;
    return entry(context, &bound);
  });
  // The next backward writes its gradients anew; until it does, their memory is free for what forward keeps.
  for (const OptimizerEntry& entry : entries) s_.gradient_of(entry.parameter).reset();
  return norm2;
}

}  // namespace cambium

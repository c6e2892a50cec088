#include "ops/optimizer.h"

namespace cambium {

Tensor adamw(Session& s, const std::vector<OptimizerEntry>& entries, const Tensor& schedule, const AdamWOptions& o) {
  expect_type("adamw", "schedule", schedule, DType::f32);
  expect_shape("adamw", "schedule", schedule, {4});
  for (const OptimizerEntry& entry : entries)
    if (!entry.m || !entry.v) fail("E_ARGUMENT", "adamw: expected both moments of every parameter, got none");
  adamw_args a{};
  a.schedule = schedule->data<float>(), a.beta1 = o.beta1, a.beta2 = o.beta2;
  a.eps = static_cast<float>(o.eps), a.max_norm = static_cast<float>(o.max_norm);
  return Update(s, "adamw", entries).run(entries, s.backend().adamw, a);
}

}  // namespace cambium

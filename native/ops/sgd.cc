#include "ops/optimizer.h"

namespace cambium {

Tensor sgd(Session& s, const std::vector<OptimizerEntry>& entries, const Tensor& schedule, const SgdOptions& o) {
  expect_type("sgd", "schedule", schedule, DType::f32);
  expect_shape("sgd", "schedule", schedule, {2});
  for (const OptimizerEntry& entry : entries)
    if (o.momentum != 0 && !entry.m) fail("E_ARGUMENT", "sgd: expected a buffer for the momentum of every parameter, got none");
  sgd_args a{};
  a.schedule = schedule->data<float>(), a.momentum = static_cast<float>(o.momentum), a.max_norm = static_cast<float>(o.max_norm);
  return Update(s, "sgd", entries).run(entries, s.backend().sgd, a);
}

}  // namespace cambium

#include "ops/attention_branch.h"

namespace cambium {

AttentionBranch branch_of(const char* op, const BranchOptions& o, int64_t batch, int64_t d) {
  AttentionBranch b{};
  if (!o.keys && !o.values && !o.index && !o.weight) return b;
  expect_type(op, "extra keys", o.keys, DType::f32);
  expect_type(op, "extra values", o.values, DType::f32);
  const Shape& shape = o.keys->shape;
  if (shape.rank() != 3 || shape[0] < 1 || shape[1] < 1 || shape[2] != d)
    fail("E_SHAPE", "%s: expected extra keys [T, l, %lld] of at least one task and slot, got %s", op, static_cast<long long>(d), shape.text().c_str());
  expect_shape(op, "extra values", o.values, shape);
  b.tasks = shape[0], b.length = shape[1], b.joint = o.joint;
  b.keys = o.keys->data<float>(), b.values = o.values->data<float>();
  if (o.index) {
    expect_type(op, "index of extra keys", o.index, DType::i32);
    expect_shape(op, "index of extra keys", o.index, {batch});
    b.index = o.index->data<int32_t>();
  }
  if (o.weight) {
    if (o.joint) fail("E_ARGUMENT", "%s: expected weights beside a separate softmax, got them with a joint one", op);
    expect_type(op, "weight of extra keys", o.weight, DType::f32);
    expect_shape(op, "weight of extra keys", o.weight, {batch});
    b.weight = o.weight->data<float>();
  }
  return b;
}

}  // namespace cambium

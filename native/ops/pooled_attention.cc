#include "ops/attention_branch.h"

namespace cambium {

Tensor pooled_attention(Session& s, const Tensor& q, const Tensor& kv, const Tensor& offsets, const Tensor& row, int64_t heads, bool causal,
                        const BranchOptions& extra) {
  expect_float("pooled_attention", "q", q);
  expect_type("pooled_attention", "kv", kv, q->dtype);
  expect_type("pooled_attention", "offsets", offsets, DType::i32);
  expect_type("pooled_attention", "row", row, DType::i32);
  const int64_t batch = q->rows(), d = q->width();
  if (heads < 1 || d < 1 || d % heads != 0) fail("E_SHAPE", "pooled_attention: expected q with a multiple of %lld columns, got %s", static_cast<long long>(heads), q->shape.text().c_str());
  if (kv->width() != 2 * d) fail("E_SHAPE", "pooled_attention: expected kv with %lld columns, got %s", static_cast<long long>(2 * d), kv->shape.text().c_str());
  expect_shape("pooled_attention", "offsets", offsets, {batch + 1});
  expect_shape("pooled_attention", "row", row, {batch});
  Tensor y = s.empty(q->shape, q->dtype, "pooled_attention");
  const pooled_attention_args a{batch, kv->rows(), d, heads, q->data(), kv->data(), code(q->dtype), causal, offsets->data<int32_t>(), row->data<int32_t>(), y->data(),
                                branch_of("pooled_attention", extra, batch, d)};
  s.run("pooled_attention", s.backend().pooled_attention_forward, a);
  if (!s.tape().wants({q, kv, extra.keys, extra.values})) return y;
  s.tape().record("pooled_attention", {y},
                  [&s, a, vq = Var(q), vkv = Var(kv), vy = Var(y), sq = Saved(q), skv = Saved(kv), so = Saved(offsets), sr = Saved(row), branch = BranchVars(extra)](Gradients& g) {
                    const Tensor dy = g.take(vy);
                    if (!dy) return;
                    sq.get("pooled_attention"), skv.get("pooled_attention"), so.get("pooled_attention"), sr.get("pooled_attention"), branch.check("pooled_attention");
                    const auto type = static_cast<DType>(a.type);
                    const Target dq(s, g.slot(vq), vq.shape, type), dkv(s, g.slot(vkv), vkv.shape, type);
                    s.run_backward("pooled_attention", s.backend().pooled_attention_backward, a,
                                   pooled_attention_grads{nullptr, dy->data(), dq.data(), dkv.data(), dq.accumulate(), dkv.accumulate(), branch.gradients(g)});
                    for (const Target* target : {&dq, &dkv})
                      if (target->tensor) target->merge(s);
                  });
  return y;
}

}  // namespace cambium

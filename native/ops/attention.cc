#include "ops/attention_branch.h"

namespace cambium {

Tensor attention(Session& s, const Tensor& qkv, const Tensor& offsets, int64_t heads, int64_t max_tokens, bool causal, const BranchOptions& extra) {
  expect_float("attention", "qkv", qkv);
  expect_type("attention", "offsets", offsets, DType::i32);
  const int64_t d = qkv->width() / 3;
  if (qkv->width() % 3 != 0 || heads < 1 || d % heads != 0 || d / heads > 128 || d == 0)
    fail("E_SHAPE", "attention: expected qkv with 3·heads·K columns, K from 1 to 128, got %s for %lld heads", qkv->shape.text().c_str(), static_cast<long long>(heads));
  if (offsets->shape.rank() != 1 || offsets->count() < 1) fail("E_SHAPE", "attention: expected offsets [B+1], got %s", offsets->shape.text().c_str());
  if (max_tokens < 0 || max_tokens > qkv->rows()) fail("E_ARGUMENT", "attention: expected max_tokens from 0 to %lld, got %lld", static_cast<long long>(qkv->rows()), static_cast<long long>(max_tokens));
  const bool wants = s.tape().wants({qkv, extra.keys, extra.values});
  Tensor y = s.empty(qkv->shape.with_last(d), qkv->dtype, "attention");
  Tensor lse = wants ? s.empty({heads, qkv->rows()}, DType::f32, "attention") : nullptr;
  attention_args a{};
  a.batch = offsets->count() - 1, a.m = qkv->rows(), a.d = d, a.heads = heads, a.max_tokens = max_tokens;
  a.qkv = qkv->data(), a.type = code(qkv->dtype), a.causal = causal, a.offsets = offsets->data<int32_t>();
  a.y = y->data(), a.lse = wants ? lse->data<float>() : nullptr;
  a.branch = branch_of("attention", extra, a.batch, d);
  s.run("attention", s.backend().attention_forward, a);
  if (!wants) return y;
  const Saved kept = s.backend().attention_reads_y ? Saved(y) : Saved();
  if (!s.backend().attention_reads_y) a.y = nullptr;
  s.tape().record("attention", {y},
                  [&s, a, vq = Var(qkv), vy = Var(y), sq = Saved(qkv), so = Saved(offsets), sy = kept, lse, branch = BranchVars(extra)](Gradients& g) {
                    const Tensor dy = g.take(vy);
                    if (!dy) return;
                    sq.get("attention"), so.get("attention"), sy.get("attention"), branch.check("attention");
                    Slot dq = g.slot(vq);
                    const auto type = static_cast<DType>(a.type);
                    Tensor target = dq.gradient;
                    // The kernel overwrites, in qkv's own type: another writer or another type takes a detour.
                    if (target && (dq.accumulate || target->dtype != type)) target = s.empty(vq.shape, type, "attention");
                    s.run_backward("attention", s.backend().attention_backward, a,
                                   attention_grads{nullptr, dy->data(), target ? target->data() : nullptr, branch.gradients(g)});
                    if (target != dq.gradient) s.cast_into(target, dq.gradient, dq.accumulate);
                  });
  return y;
}

}  // namespace cambium

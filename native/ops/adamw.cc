#include "ops/ops.h"

namespace cambium {

Tensor adamw(Session& s, const std::vector<AdamWGroup>& groups, const Tensor& schedule, const AdamWOptions& o) {
  expect_type("adamw", "schedule", schedule, DType::f32);
  expect_shape("adamw", "schedule", schedule, {4});
  std::vector<CbParameter> list;
  std::vector<Tensor> used;  // until the update is queued: what is allocated before that must not lie in them
  for (const AdamWGroup& group : groups) {
    const Tensor& p = group.parameter;
    expect_type("adamw", "parameter", p, DType::f32);
    if (!p->leaf) fail("E_ARGUMENT", "adamw: expected parameters, got a tensor that is none (shape %s)", p->shape.text().c_str());
    for (const Tensor& t : {group.m, group.v, group.average}) {
      if (!t && t == group.average) continue;
      expect_type("adamw", "state", t, DType::f32);
      expect_shape("adamw", "state", t, p->shape);
      s.touched(t);
    }
    Tensor gradient = s.gradient_of(p);
    if (!gradient) {
      gradient = s.empty(p->shape, DType::f32, "gradient");
      s.zero(gradient);
    }
    used.push_back(gradient);
    s.touched(p);
    list.push_back({p->count(), p->data<float>(), gradient->data<float>(), group.m->data<float>(), group.v->data<float>(),
                    group.average ? group.average->data<float>() : nullptr, static_cast<float>(group.decay), static_cast<float>(group.lr_scale)});
  }
  Tensor norm2 = s.empty({1}, DType::f32, "adamw");
  const auto count = static_cast<int64_t>(list.size());
  s.stream().enqueue("adamw", [backend = &s.backend(), list = std::move(list), count, norm = norm2->data<float>(), schedule = schedule->data<float>(),
                               o](CbContext* context) {
    const squared_norm_args n{count, list.data(), norm};
    if (int status = backend->squared_norm(context, &n)) return status;
    adamw_args a{count, list.data(), schedule, o.max_norm > 0 ? norm : nullptr, o.beta1, o.beta2,
                 static_cast<float>(o.eps), static_cast<float>(o.max_norm)};
    return backend->adamw(context, &a);
  });
  // The next backward writes its gradients anew; until it does, their memory is free for what forward keeps.
  for (const AdamWGroup& group : groups) s.gradient_of(group.parameter).reset();
  return norm2;
}

}  // namespace cambium

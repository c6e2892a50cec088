#include "ops/optimizer.h"

namespace cambium {

Update::Update(Session& s, const char* op, const std::vector<OptimizerEntry>& entries) : s_(s), op_(op) {
  for (const OptimizerEntry& entry : entries) {
    const Tensor& p = entry.parameter;
    expect_type(op, "parameter", p, DType::f32);
    if (!p->leaf) fail("E_ARGUMENT", "%s: expected parameters, got a tensor that is none (shape %s)", op, p->shape.text().c_str());
    for (const Tensor& t : {entry.m, entry.v, entry.average, entry.anchor}) {
      if (!t) continue;
      expect_type(op, "state", t, DType::f32);
      expect_shape(op, "state", t, p->shape);
      if (t != entry.anchor) s.touched(t);
    }
    Tensor gradient = s.gradient_of(p);
    if (!gradient) {
      gradient = s.empty(p->shape, DType::f32, "gradient");
      s.zero(gradient);
    }
    gradients_.push_back(gradient);
    s.touched(p);
    const auto data = [](const Tensor& t) { return t ? t->data<float>() : nullptr; };
    list_.push_back({p->count(), p->data<float>(), gradient->data<float>(), data(entry.m), data(entry.v), data(entry.average),
                     static_cast<float>(entry.decay), static_cast<float>(entry.lr_scale), data(entry.anchor), static_cast<float>(entry.pull)});
  }
}

}  // namespace cambium

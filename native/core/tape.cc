#include "core/tape.h"

#include "core/session.h"

namespace cambium {

Var::Var(const Tensor& t) {
  if (!t) return;
  uid = t->uid, shape = t->shape, dtype = t->dtype, wanted = t->requires_grad;
  if (t->leaf) leaf = t;
}

const Tensor& Saved::get(const char* op) const {
  if (tensor_ && tensor_->storage->version != version_)
    fail("E_VERSION", "%s: expected a tensor saved for backward to be unchanged, got one written in place (version %llu, saved %llu)", op,
         static_cast<unsigned long long>(tensor_->storage->version), static_cast<unsigned long long>(version_));
  return tensor_;
}

Tensor Gradients::take(const Var& output) {
  auto it = flowing_.find(output.uid);
  if (it == flowing_.end()) return nullptr;
  Tensor gradient = std::move(it->second);
  flowing_.erase(it);
  return gradient;
}

void Gradients::expect_none_left() const {
  if (!flowing_.empty())
    fail("E_NO_GRADIENT", "backward: expected values recorded since the tape was last emptied, got a gradient for one of before (keep it as a constant: make it in noGradient)");
}

Slot Gradients::slot(const Var& input) {
  if (!input.wanted) return {};
  if (input.leaf) {
    Tensor& gradient = session_.gradient_of(input.leaf);
    const bool there = gradient != nullptr;
    if (!there) gradient = session_.empty(input.shape, input.dtype, "gradient");
    return {gradient, there};
  }
  auto [it, created] = flowing_.try_emplace(input.uid);
  if (created) it->second = session_.empty(input.shape, input.dtype, "gradient");
  return {it->second, !created};
}

void Gradients::give(const Var& input, Tensor gradient) {
  if (!input.wanted || !gradient) return;
  if (!input.leaf && gradient->dtype == input.dtype && gradient.use_count() == 1 && !flowing_.count(input.uid)) {
    if (gradient->shape != input.shape) gradient = session_.view(gradient, input.shape);
    flowing_[input.uid] = std::move(gradient);
    return;
  }
  Slot slot = this->slot(input);
  session_.cast_into(gradient, slot.gradient, slot.accumulate);
}

bool Tape::wants(std::initializer_list<Tensor> inputs) const {
  if (!recording) return false;
  for (const Tensor& t : inputs)
    if (t && t->requires_grad) return true;
  return false;
}

void Tape::record(const char* op, std::initializer_list<Tensor> outputs, Function backward) {
  for (const Tensor& t : outputs) t->requires_grad = true;
  nodes_.emplace_back(op, std::move(backward));
}

void Tape::backward(const std::vector<Tensor>& outputs, const std::vector<Tensor>& seeds) {
  Gradients gradients(session_);
  auto nodes = std::move(nodes_);
  nodes_.clear();
  const bool was = recording;
  recording = false;
  try {
    for (size_t i = 0; i < outputs.size(); ++i) {
      const Tensor& y = outputs[i];
      if (!y->requires_grad) fail("E_NO_GRADIENT", "backward: expected outputs that depend on something trainable, got one that does not (output %zu)", i);
      Tensor seed = seeds[i];
      if (!seed) {
        if (y->count() != 1) fail("E_SHAPE", "backward: expected a seed for an output of shape %s, got none", y->shape.text().c_str());
        seed = session_.full({1}, 1.0f);
      }
      if (seed->count() != y->count())
        fail("E_SHAPE", "backward: expected a seed of shape %s, got %s", y->shape.text().c_str(), seed->shape.text().c_str());
      // A copy: the walk may write into it.
      Slot slot = gradients.slot(y);
      session_.cast_into(seed, slot.gradient, slot.accumulate);
    }
    while (!nodes.empty()) {
      Function function = std::move(nodes.back().second);
      nodes.pop_back();
      function(gradients);
    }
    gradients.expect_none_left();
  } catch (...) {
    recording = was;
    throw;
  }
  recording = was;
}

}  // namespace cambium

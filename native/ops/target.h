// Where a backward kernel writes a gradient when the slot's type is not the one it can write.
#pragma once
#include "core/session.h"

namespace cambium {

// A gradient's memory in the type a kernel writes; `merge` brings it home when that is not the slot itself.
struct Target {
  Slot slot;
  Tensor tensor;
  Target(Session& s, const Slot& slot, const Shape& shape, DType type) : slot(slot) {
    if (slot.gradient) tensor = slot.gradient->dtype == type ? slot.gradient : s.empty(shape, type, "gradient");
  }
  void* data() const { return tensor ? tensor->data() : nullptr; }
  int accumulate() const { return tensor == slot.gradient && slot.accumulate; }
  void merge(Session& s) const {
    if (tensor != slot.gradient) s.cast_into(tensor, slot.gradient, slot.accumulate);
  }
};

}  // namespace cambium

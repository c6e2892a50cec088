#include "core/handles.h"

#include <algorithm>

namespace cambium {
namespace {
constexpr Id kSlots = Id{1} << 24;
}

void Handles::require_scope(const char* op) const {
  if (scopes_.empty()) fail("E_SCOPE", "%s: expected to run inside scope() or step(), got a call outside", op);
}

Id Handles::add(Tensor tensor, bool scoped) {
  uint32_t slot;
  if (!unused_.empty()) {
    slot = unused_.back();
    unused_.pop_back();
  } else {
    if (static_cast<Id>(slots_.size()) >= kSlots) fail("E_HANDLE", "tensor: expected fewer than 2^24 tensors alive, got more");
    slot = static_cast<uint32_t>(slots_.size());
    slots_.emplace_back();
  }
  slots_[slot].tensor = std::move(tensor);
  ++alive_;
  const Id id = static_cast<Id>(slots_[slot].generation) * kSlots + slot;
  if (scoped && !scopes_.empty()) scopes_.back().push_back(id);
  return id;
}

Handles::Entry* Handles::find(Id id) const {
  const Id slot = id % kSlots;
  if (id <= 0 || slot >= static_cast<Id>(slots_.size())) return nullptr;
  const Entry& entry = slots_[slot];
  if (!entry.tensor || static_cast<Id>(entry.generation) != id / kSlots) return nullptr;
  return const_cast<Entry*>(&entry);
}

const Tensor& Handles::get(Id id) const {
  Entry* entry = find(id);
  if (!entry) fail("E_HANDLE", "tensor: expected a living tensor, got one that was freed (handle %lld)", static_cast<long long>(id));
  return entry->tensor;
}

void Handles::free(Id id) {
  Entry* entry = find(id);
  if (!entry) return;
  entry->tensor.reset();
  --alive_;
  // A slot whose generations are used up is retired rather than reused.
  if (++entry->generation < (1u << 28)) unused_.push_back(static_cast<uint32_t>(id % kSlots));
}

void Handles::leave(const std::vector<Id>& keep) {
  if (scopes_.empty()) fail("E_SCOPE", "scope: expected an open scope, got none");
  const std::vector<Id> born = std::move(scopes_.back());
  scopes_.pop_back();
  for (Id id : born) {
    if (std::find(keep.begin(), keep.end(), id) == keep.end()) {
      free(id);
    } else if (!scopes_.empty()) {
      scopes_.back().push_back(id);
    }
  }
}

void Handles::clear() {
  scopes_.clear();
  for (Entry& entry : slots_) entry.tensor.reset();
  alive_ = 0;
}

}  // namespace cambium

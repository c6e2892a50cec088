// Integer ids for tensors that JavaScript holds, and the scopes that own them.
//
// An id is slot + generation: a stale one is an error, never a crash. Everything born inside a scope is freed at its
// end unless kept, in which case the scope around it (or nobody) owns it.
#pragma once
#include <cstdint>
#include <vector>

#include "core/tensor.h"

namespace cambium {

using Id = int64_t;  // generation · 2^24 + slot, below 2^53: exact as a JavaScript number; 0 is no tensor

class Handles {
 public:
  Id add(Tensor tensor, bool scoped);  // scoped: the innermost scope owns it, or nobody when there is none
  const Tensor& get(Id id) const;      // E_HANDLE when stale
  void free(Id id);                    // freeing twice is no error
  void enter() { scopes_.emplace_back(); }
  void leave(const std::vector<Id>& keep);
  size_t depth() const { return scopes_.size(); }
  size_t alive() const { return alive_; }
  void require_scope(const char* op) const;
  void clear();

 private:
  struct Entry {
    Tensor tensor;
    uint32_t generation = 1;
  };
  Entry* find(Id id) const;
  std::vector<Entry> slots_{1};
  std::vector<uint32_t> unused_;
  std::vector<std::vector<Id>> scopes_;
  size_t alive_ = 0;
};

}  // namespace cambium

// The whole of autograd: define by run, first order.
//
// Ops record a node {outputs, function}; backward walks the nodes in reverse and calls the functions, which only
// enqueue. Gradients of values in flight live in slots keyed by the value: the first writer overwrites, later ones add
// (`accumulate`). A value that is passed on unchanged (a residual) hands its gradient's memory on. Parameters keep their
// gradient, which adds up until the optimizer zeroes it.
#pragma once
#include <functional>
#include <initializer_list>
#include <unordered_map>
#include <vector>

#include "core/tensor.h"

namespace cambium {

class Session;

// What a node remembers of an input or output: enough to make a gradient for it, without keeping its memory.
struct Var {
  uint64_t uid = 0;
  Shape shape;
  DType dtype = DType::f32;
  bool wanted = false;  // requires a gradient
  Tensor leaf;          // itself, when a parameter
  Var() = default;
  Var(const Tensor& t);  // NOLINT: a tensor is remembered as its Var wherever one is asked for
};

// A tensor kept for backward. Reading it after an in-place write is an error.
class Saved {
 public:
  Saved() = default;
  Saved(const Tensor& t) : tensor_(t), version_(t ? t->storage->version : 0) {}  // NOLINT
  const Tensor& get(const char* op) const;

 private:
  Tensor tensor_;
  uint64_t version_ = 0;
};

struct Slot {
  Tensor gradient;  // null: not wanted
  bool accumulate = false;
  template <class T = void>
  T* data() const {
    return gradient ? gradient->data<T>() : nullptr;
  }
};

class Gradients {
 public:
  explicit Gradients(Session& session) : session_(session) {}
  Tensor take(const Var& output);  // null when nothing flowed to it
  Slot slot(const Var& input);     // memory of the input's type
  // Passes a gradient on: hands over its memory when nobody else needs it, else copies or adds.
  void give(const Var& input, Tensor gradient);
  // At the end of a walk: what nobody took belongs to a value whose node is gone, and would be lost.
  void expect_none_left() const;

 private:
  Session& session_;
  std::unordered_map<uint64_t, Tensor> flowing_;
};

class Tape {
 public:
  using Function = std::function<void(Gradients&)>;
  explicit Tape(Session& session) : session_(session) {}

  // True when recording is on and one of the inputs (null allowed) requires a gradient.
  bool wants(std::initializer_list<Tensor> inputs) const;
  // Marks the outputs as requiring gradients and remembers how to get them.
  void record(const char* op, std::initializer_list<Tensor> outputs, Function backward);

  // d(Σ seeds·outputs): walks back and empties the tape. A null seed means ones (scalars only).
  void backward(const std::vector<Tensor>& outputs, const std::vector<Tensor>& seeds);
  void clear() { nodes_.clear(); }
  size_t size() const { return nodes_.size(); }

  bool recording = true;

  // A tape within the tape (recompute): what is recorded from here on is a matter of its own.
  std::vector<std::pair<const char*, Function>> swap_nodes(std::vector<std::pair<const char*, Function>> nodes) {
    std::swap(nodes, nodes_);
    return nodes;
  }

 private:
  Session& session_;
  std::vector<std::pair<const char*, Function>> nodes_;
};

}  // namespace cambium

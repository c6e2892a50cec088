// Everything that belongs to one Node environment on one device: stream, memory, tape, handles. Ops get the session as
// their first argument; it gives them memory, queues their kernels and says whether backward will be asked for.
#pragma once
#include <initializer_list>
#include <string>
#include <vector>

#include "core/handles.h"
#include "core/tape.h"
#include "core/tensor.h"
#include "ops/device.h"

namespace cambium {

class Session {
 public:
  explicit Session(const Backend* backend);      // the CPU
  explicit Session(CbDevice* device);            // another device; the session closes it
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  const Backend& backend() const { return *backend_; }
  CbDevice* device() { return device_.get(); }  // null: the CPU
  Memory& memory() { return memory_; }  // where tensors live, but for those born during a capture
  Stream& stream() { return *stream_; }
  Tape& tape() { return tape_; }
  Handles& handles() { return handles_; }

  // A place of its own for the tensors that are born from here on (capture.h). @throws E_CAPTURE in another
  void enter_place(Memory* place);
  uint64_t leave_place();  // back to the usual one; FNV-1a of all that `write` was given meanwhile
  // A place that is given up goes when the last tensor there has died.
  void retire(std::unique_ptr<Memory> place);

  Tensor empty(const Shape& shape, DType type, const char* what);
  Tensor full(const Shape& shape, float value);                 // f32
  Tensor view(const Tensor& t, const Shape& shape);             // same storage, another shape, no gradient
  Tensor slice(const Tensor& t, int64_t first, int64_t count);  // the same for [first, first + count) of the first dimension
  void write(const Tensor& t, const void* host, size_t bytes);  // copies the host's bytes at the call
  // Inside a task: from memory of the host to the device, and back. What is fetched has come when the stream gets to an `always`
  // that was queued later.
  int send(CbContext* context, void* to, const void* from, size_t bytes);
  int fetch(CbContext* context, void* to, const void* from, size_t bytes);
  void zero(const Tensor& t);
  void cast_into(const Tensor& from, const Tensor& to, bool accumulate);
  void touched(const Tensor& t) { ++t->storage->version; }  // an in-place write has been queued

  // The gradient of a parameter, for reading or setting: null when there is none or it was dropped.
  Tensor& gradient_of(const Tensor& parameter) {
    if (parameter->gradient_epoch != gradient_epoch_) parameter->gradient.reset();
    parameter->gradient_epoch = gradient_epoch_;
    return parameter->gradient;
  }
  // Voids the gradients of all parameters: a step was given up, or what they hold was never computed.
  void drop_gradients() { ++gradient_epoch_; }
  // The stream's failure reached JavaScript: what is queued from now on runs again.
  void told(const Failure& failure);

  template <class Args>
  void run(const char* op, int (*entry)(CbContext*, const Args*), const Args& args) {
    stream_->enqueue(op, [entry, args](CbContext* context) { return entry(context, &args); });
  }
  // Backward entries read their forward arguments through a pointer; both travel together.
  template <class Args, class Grads>
  void run_backward(const char* op, int (*entry)(CbContext*, const Grads*), const Args& args, const Grads& grads) {
    stream_->enqueue(op, [entry, args, grads](CbContext* context) {
      Grads bound = grads;
      bound.f = &args;
      return entry(context, &bound);
    });
  }

 private:
  void sweep();
  struct Close {
    void operator()(CbDevice* device) const { device->close(device); }
  };
  Session(std::unique_ptr<CbDevice, Close> device, const Backend* backend, const SegmentSource& segments);

  std::unique_ptr<CbDevice, Close> device_;  // goes last
  const Backend* backend_;
  Memory memory_;
  std::vector<std::unique_ptr<Memory>> retired_;  // goes before memory_, where its segments are
  Memory* place_ = &memory_;                      // where tensors are born
  std::unique_ptr<Stream> stream_;
  Tape tape_;
  Handles handles_;
  uint64_t written_ = 0, next_uid_ = 1, gradient_epoch_ = 0, told_ = 0;
};

}  // namespace cambium

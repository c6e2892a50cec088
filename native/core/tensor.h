// A contiguous row-major tensor: a shape and a type over shared storage.
//
// Storage lives in the Memory of its session and is touched by JavaScript's thread only; queued tasks carry raw
// pointers, which stay good because memory is stream-ordered.
#pragma once
#include <cstdint>
#include <map>
#include <memory>

#include "core/dtype.h"
#include "core/memory.h"
#include "core/shape.h"
#include "core/stream.h"

namespace cambium {

// Permuted copies of the matrices in a storage, by where they begin; made and read by the stream's thread.
struct Packs {
  std::map<size_t, CbPack> by_offset;
  ~Packs() {
    for (auto& [offset, pack] : by_offset)
      if (pack.data) pack.release(pack.data);
  }
};

struct Storage {
  Memory* memory;
  Stream* stream;
  void* data;
  size_t bytes;
  uint64_t version = 1;  // goes up with every in-place write
  Packs* packs = nullptr;
  bool keep_packed = false;  // products of many rows keep their packed copy too

  Storage(Memory* m, Stream* s, size_t n, const char* what) : memory(m), stream(s), data(m->allocate(n, what)), bytes(n) {}
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;
  ~Storage() {
    memory->release(data);
    // Queued tasks may still read the packed copies: they go in stream order.
    if (packs) stream->always([packs = packs](const Failure&) { delete packs; });
  }
  CbPack* pack(size_t offset) {
    if (!packs) packs = new Packs;
    return &packs->by_offset[offset];
  }
};

struct TensorData;
using Tensor = std::shared_ptr<TensorData>;

struct TensorData {
  std::shared_ptr<Storage> storage;
  size_t offset = 0;  // bytes into the storage
  Shape shape;
  DType dtype;
  uint64_t uid;                // names the value on the tape
  bool requires_grad = false;  // a gradient flows to or through it
  bool leaf = false;           // a parameter: its gradient adds up in `gradient`
  Tensor gradient;             // f32; by Session::gradient_of only
  uint64_t gradient_epoch = 0;

  int64_t count() const { return shape.count(); }
  int64_t rows() const { return shape.rows(); }
  int64_t width() const { return shape.last(); }
  template <class T = void>
  T* data() const {
    return static_cast<T*>(static_cast<void*>(static_cast<char*>(storage->data) + offset));
  }
};

}  // namespace cambium

// What asynchronous jobs share: a promise over Node's worker pool, and reading their option objects.
#pragma once
#include <memory>

#include "addon/bind.h"
#include "io/io_status.h"
#include "io/read_tensor.h"

namespace cambium {

using Info = Napi::CallbackInfo;

// Runs `work` on a pool thread, then `finish` on JavaScript's. Byte inputs are pinned through `pin`.
class Job : public Napi::AsyncWorker {
 public:
  using Work = std::function<IoStatus()>;
  using Finish = std::function<Napi::Value(Napi::Env)>;
  static Napi::Promise start(Napi::Env env, Work work, Finish finish, const std::vector<Napi::Value>& pin = {}) {
    auto* job = new Job(env, std::move(work), std::move(finish));
    for (const Napi::Value& value : pin) job->pinned_.push_back(Napi::Persistent(value.As<Napi::Object>()));
    const Napi::Promise promise = job->deferred_.Promise();
    job->Queue();
    return promise;
  }

 private:
  Job(Napi::Env env, Work work, Finish finish)
      : Napi::AsyncWorker(env), deferred_(Napi::Promise::Deferred::New(env)), work_(std::move(work)), finish_(std::move(finish)) {}
  void Execute() override {
    try {
      status_ = work_();
    } catch (const std::exception& error) {
      status_ = IoStatus::error("E_OUT_OF_MEMORY", error.what());
    }
  }
  void OnOK() override {
    Napi::HandleScope scope(Env());
    if (!status_.ok()) return deferred_.Reject(to_js_error(Env(), status_.code, status_.message).Value());
    try {
      deferred_.Resolve(finish_(Env()));
    } catch (const Napi::Error& error) {
      deferred_.Reject(error.Value());
    }
  }

  Napi::Promise::Deferred deferred_;
  Work work_;
  Finish finish_;
  std::vector<Napi::ObjectReference> pinned_;
  IoStatus status_;
};

template <class T>
T field(Environment& e, const Napi::Object& object, const char* key) {
  return From<T>::get(e, object.Get(key));
}
inline bool has(const Napi::Object& object, const char* key) { return !object.Get(key).IsUndefined() && !object.Get(key).IsNull(); }

inline Napi::Object object_at(const Info& info, size_t i, const char* what) {
  if (!info[i].IsObject()) fail("E_ARGUMENT", "%s: expected an object, got something else", what);
  return info[i].As<Napi::Object>();
}

inline ElementType element_type(const std::string& name) {
  const ElementType type = element_type_from_name(name.c_str());
  if (type == ElementType::kUnknown) fail("E_DTYPE", "dtype: expected a type of safetensors that can be read, got '%s'", name.c_str());
  return type;
}

// {path, offset, count, from, expectedSize, transposeRows?}
inline TensorRead read_request(Environment& e, const Napi::Object& o, ElementType to) {
  TensorRead r;
  r.path = field<std::string>(e, o, "path");
  const int64_t offset = field<int64_t>(e, o, "offset"), count = field<int64_t>(e, o, "count"), size = field<int64_t>(e, o, "expectedSize");
  if (offset < 0 || count < 0 || size < 0) fail("E_ARGUMENT", "readTensor: expected offset, count and size of at least 0, got a negative one");
  r.offset = static_cast<uint64_t>(offset), r.count = static_cast<uint64_t>(count), r.expected_size = static_cast<uint64_t>(size);
  r.from = element_type(field<std::string>(e, o, "from")), r.to = to;
  if (has(o, "transposeRows")) r.transpose_rows = static_cast<uint64_t>(field<int64_t>(e, o, "transposeRows"));
  return r;
}

}  // namespace cambium

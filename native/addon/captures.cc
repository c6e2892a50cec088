// Captured steps, by number.
#include <map>

#include "addon/bind.h"
#include "core/capture.h"

namespace cambium {
namespace {

using Info = Napi::CallbackInfo;

Capture& capture_of(Environment& e, const Napi::Value& value) {
  const auto it = e.captures.find(From<int64_t>::get(e, value));
  if (it == e.captures.end()) fail("E_HANDLE", "capture: expected one that is there, got another");
  return *it->second;
}

Napi::Value begin(Environment& e, const Info& info) {
  auto capture = std::make_unique<Capture>(e.session());
  e.captures.emplace(++e.last_capture, std::move(capture));
  return to_js(info.Env(), e.last_capture);
}

// (capture, outputs): the outputs are the capture's from here on.
Napi::Value end(Environment& e, const Info& info) {
  std::vector<Tensor> outputs;
  for (const int64_t id : From<std::vector<int64_t>>::get(e, info[1])) {
    outputs.push_back(e.session().handles().get(id));
    e.session().handles().free(id);
  }
  capture_of(e, info[0]).end(outputs);
  return info.Env().Undefined();
}

// Queues the step once more; what it leaves behind, as tensors of the scope.
Napi::Value replay(Environment& e, const Info& info) {
  Session& s = e.session();
  s.handles().require_scope("capture");
  Capture& capture = capture_of(e, info[0]);
  capture.replay();
  Napi::Array out = Napi::Array::New(info.Env(), capture.outputs().size());
  for (uint32_t i = 0; i < capture.outputs().size(); ++i) {
    const Tensor& from = capture.outputs()[i];
    const Tensor copy = s.empty(from->shape, from->dtype, "capture");
    copy_into(s, from, copy);
    out.Set(i, to_js(info.Env(), s.handles().add(copy, true)));
  }
  return out;
}

}  // namespace

void bind_captures(Napi::Env env, Napi::Object& exports) {
  bind(env, exports, "beginCapture", begin);
  bind(env, exports, "endCapture", end);
  bind(env, exports, "replay", replay);
  bind(env, exports, "freeCapture", [](Environment& e, const Info& info) -> Napi::Value {
    e.captures.erase(From<int64_t>::get(e, info[0]));
    return info.Env().Undefined();
  });
  // A fingerprint of all bytes that came from the host since the last call.
  bind(env, exports, "takeWritten", [](Environment& e, const Info& info) -> Napi::Value {
    return Napi::BigInt::New(info.Env(), e.session().take_written());
  });
}

}  // namespace cambium

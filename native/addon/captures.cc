// Captured steps, by number.
#include <map>

#include "addon/bind.h"
#include "core/capture.h"

namespace cambium {
namespace {

using Info = Napi::CallbackInfo;

Capture& capture_of(Environment& e, const Info& info) {
  const auto it = e.captures.find(From<int64_t>::get(e, info[0]));
  if (it == e.captures.end()) fail("E_HANDLE", "capture: expected one that is there, got another");
  return *it->second;
}

Napi::Value open(Environment& e, const Info& info) {
  e.captures.emplace(e.last_capture + 1, std::make_unique<Capture>(e.session()));
  return to_js(info.Env(), ++e.last_capture);
}

Napi::Value leave(Environment& e, const Info& info) {
  const Capture::Left left = capture_of(e, info).leave();
  Napi::Object out = Napi::Object::New(info.Env());
  out.Set("graph", to_js(info.Env(), left.graph));
  out.Set("written", Napi::BigInt::New(info.Env(), left.written));
  return out;
}

}  // namespace

void bind_captures(Napi::Env env, Napi::Object& exports) {
  bind(env, exports, "openCapture", open);
  bind(env, exports, "enterCapture", [](Environment& e, const Info& info) -> Napi::Value {
    capture_of(e, info).enter(From<bool>::get(e, info[1]));
    return info.Env().Undefined();
  });
  bind(env, exports, "leaveCapture", leave);
  bind(env, exports, "giveUpCapture", [](Environment& e, const Info& info) -> Napi::Value {
    capture_of(e, info).give_up();
    return info.Env().Undefined();
  });
  bind(env, exports, "replay", [](Environment& e, const Info& info) -> Napi::Value {
    e.session().handles().require_scope("capture");
    capture_of(e, info).replay(From<int64_t>::get(e, info[1]));
    return info.Env().Undefined();
  });
  bind(env, exports, "forgetGraph", [](Environment& e, const Info& info) -> Napi::Value {
    capture_of(e, info).forget(From<int64_t>::get(e, info[1]));
    return info.Env().Undefined();
  });
  bind(env, exports, "closeCapture", [](Environment& e, const Info& info) -> Napi::Value {
    e.captures.erase(From<int64_t>::get(e, info[0]));
    return info.Env().Undefined();
  });
}

}  // namespace cambium

// What the addon exports, by group.
#pragma once
#include "addon/convert.h"

namespace cambium {

void bind_ops(Napi::Env env, Napi::Object& exports);
void bind_tensors(Napi::Env env, Napi::Object& exports);  // tensors, scopes, tape, optimizer, stream, memory
void bind_devices(Napi::Env env, Napi::Object& exports);  // the CPU or a GPU
void bind_captures(Napi::Env env, Napi::Object& exports);  // steps that a device replays
void bind_jobs(Napi::Env env, Napi::Object& exports);     // files and images, off the JavaScript thread
void bind_linalg(Napi::Env env, Napi::Object& exports);   // decompositions, off the JavaScript thread
void bind_statistics(Napi::Env env, Napi::Object& exports);  // moments and Gaussians, off the JavaScript thread
void bind_merging(Napi::Env env, Napi::Object& exports);  // files of merged checkpoints, off the JavaScript thread

// A function of (environment, arguments) under a name, guarded.
template <class F>
void bind(Napi::Env env, Napi::Object& exports, const char* name, F body) {
  exports.Set(name, Napi::Function::New(
                        env,
                        [body](const Napi::CallbackInfo& info) -> Napi::Value {
                          return guard(info.Env(), [&]() -> Napi::Value { return body(Environment::of(info.Env()), info); });
                        },
                        name));
}

}  // namespace cambium

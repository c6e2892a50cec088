// Entry point: one Environment per Node environment, context-aware.
#include "addon/bind.h"
#include "cpu/level.h"

namespace cambium {
namespace {

Napi::Object init(Napi::Env env, Napi::Object exports) {
  try {
    if (const char* error = cpu_level_error()) fail("E_CPU", "%s", error);
    auto* environment = new Environment(env);
    env.SetInstanceData<Environment>(environment);
    // The stream must stop while the environment can still be told; instance data goes too late for that.
    env.AddCleanupHook([](Environment* e) { e->close(); }, environment);
  } catch (const Error& error) {
    throw to_js_error(env, error.code(), error.what());
  }
  bind_ops(env, exports);
  bind_tensors(env, exports);
  bind_devices(env, exports);
  bind_captures(env, exports);
  bind_jobs(env, exports);
  bind_linalg(env, exports);
  bind_statistics(env, exports);
  bind_merging(env, exports);
  return exports;
}

}  // namespace
}  // namespace cambium

static Napi::Object Init(Napi::Env env, Napi::Object exports) { return cambium::init(env, exports); }
NODE_API_MODULE(cambium, Init)

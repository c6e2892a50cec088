// The device of an environment: the CPU from the start, or a GPU whose library is opened when it is asked for.
#include <dlfcn.h>

#include "addon/bind.h"
#include "cpu/backend.h"

namespace cambium {
namespace {

using Info = Napi::CallbackInfo;

// The device that a library has. @throws E_DEVICE with the reason why it has none
CbDevice* open_device(const std::string& library, const std::string& cublas) {
  // Never closed: its code may run until the process ends.
  void* const handle = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (!handle) {
    const char* const why = dlerror();
    fail("E_DEVICE", "%s: expected a library that loads (%s)", library.c_str(), why ? why : "unknown");
  }
  const auto open = reinterpret_cast<CbOpenDevice>(dlsym(handle, "cambium_cuda_open"));
  if (!open) fail("E_DEVICE", "%s: expected a library of this package, got one without cambium_cuda_open", library.c_str());
  CbDevice* device = nullptr;
  char reason[320] = {};
  if (const int status = open(&device, cublas.empty() ? nullptr : cublas.c_str(), reason, sizeof reason))
    fail(status == CB_OUT_OF_MEMORY ? "E_OUT_OF_MEMORY" : "E_DEVICE", "cuda: %s", reason);
  const Backend* const table = device->backend;
  if (device->version == CB_ABI_VERSION && device->size == sizeof(CbDevice) && table->version == CB_ABI_VERSION && table->size == sizeof(Backend)) return device;
  // Where the entries of another version lie, `close` among them, is not known: what it opened stays open.
  fail("E_DEVICE", "%s: expected a library of the same version (ABI %d), got one of ABI %u, of another size; npx cambium build --cuda makes it again",
       library.c_str(), CB_ABI_VERSION, device->version);
}

// (library | null for the CPU, cublas | null, tf32): the device of this environment from here on; only before there are tensors.
Napi::Value use_device(Environment& e, const Info& info) {
  if (e.session().handles().alive() > 0 || e.session().memory().use().live > 0)
    fail("E_DEVICE", "device: expected to be chosen before there are tensors, got %zu alive on %s", e.session().handles().alive(), e.session().backend().name);
  const bool gpu = !info[0].IsNull() && !info[0].IsUndefined();
  const std::string cublas = info[1].IsString() ? From<std::string>::get(e, info[1]) : "";
  CbDevice* const device = gpu ? open_device(From<std::string>::get(e, info[0]), cublas) : nullptr;
  if (device) device->tf32 = info[2].ToBoolean();
  e.replace_session(std::unique_ptr<Session>(device ? new Session(device) : new Session(cpu_backend())));
  return info.Env().Undefined();
}

// (library, cublas | null) -> { name, products } of its GPU, which is not kept.
Napi::Value probe_device(Environment& e, const Info& info) {
  CbDevice* const device = open_device(From<std::string>::get(e, info[0]), info[1].IsString() ? From<std::string>::get(e, info[1]) : "");
  Napi::Object out = Napi::Object::New(info.Env());
  out.Set("name", Napi::String::New(info.Env(), device->name));
  out.Set("products", Napi::String::New(info.Env(), device->products));
  size_t free = 0, total = 0;
  if (device->memory(device, &free, &total) != CB_OK) {
    const std::string why = device->message;
    device->close(device);
    fail("E_DEVICE", "cuda: %s", why.c_str());
  }
  out.Set("free", to_js(info.Env(), static_cast<int64_t>(free)));
  out.Set("total", to_js(info.Env(), static_cast<int64_t>(total)));
  device->close(device);
  return out;
}

}  // namespace

void bind_devices(Napi::Env env, Napi::Object& exports) {
  bind(env, exports, "useDevice", use_device);
  bind(env, exports, "probeDevice", probe_device);
  // {free, total} bytes of the device in force; null for the CPU, whose memory is the system's
  bind(env, exports, "deviceMemory", [](Environment& e, const Info& info) -> Napi::Value {
    CbDevice* const device = e.session().device();
    if (!device) return info.Env().Null();
    size_t free = 0, total = 0;
    if (device->memory(device, &free, &total) != CB_OK) fail("E_DEVICE", "device: %s", device->message);
    Napi::Object out = Napi::Object::New(info.Env());
    out.Set("free", to_js(info.Env(), static_cast<int64_t>(free)));
    out.Set("total", to_js(info.Env(), static_cast<int64_t>(total)));
    return out;
  });
}

}  // namespace cambium

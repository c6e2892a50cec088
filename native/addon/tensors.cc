// Tensors, scopes, the tape, the optimizer, the stream and the device's memory.
#include <cstring>

#include "addon/bind.h"
#include "core/random.h"
#include "cpu/gemm/gemm.h"
#include "cpu/parallel.h"

namespace cambium {
namespace {

using Info = Napi::CallbackInfo;

Tensor tensor(Environment& e, const Napi::Value& value) {
  Tensor t = From<Tensor>::get(e, value);
  if (!t) fail("E_ARGUMENT", "tensor: expected a tensor, got none");
  return t;
}

Napi::Value undefined(const Info& info) { return info.Env().Undefined(); }

// (dtype, shape, bytes | null, outlives): a tensor outside the tape; zeros without bytes. One that outlives its scope is
// freed by its owner.
Napi::Value create(Environment& e, const Info& info) {
  Session& s = e.session();
  Tensor t = s.empty(From<Shape>::get(e, info[1]), From<DType>::get(e, info[0]), "tensor");
  if (info[2].IsNull() || info[2].IsUndefined()) {
    s.zero(t);
  } else {
    const Bytes bytes = From<Bytes>::get(e, info[2]);
    s.write(t, bytes.data, bytes.size);
  }
  return to_js(info.Env(), s.handles().add(t, !From<bool>::get(e, info[3])));
}

Napi::Value read(Environment& e, const Info& info) {
  Session& s = e.session();
  const Tensor t = tensor(e, info[0]);
  auto bytes = std::make_shared<std::string>(static_cast<size_t>(t->count()) * size_of(t->dtype), '\0');
  s.stream().enqueue("read", [&s, bytes, from = t->data()](CbContext* context) { return s.fetch(context, &(*bytes)[0], from, bytes->size()); });
  return e.settle(info.Env(), [bytes](Napi::Env env) -> Napi::Value {
    Napi::ArrayBuffer out = Napi::ArrayBuffer::New(env, bytes->size());
    std::memcpy(out.Data(), bytes->data(), bytes->size());
    return out;
  });
}

void bind_tensor(Napi::Env env, Napi::Object& exports) {
  bind(env, exports, "create", create);
  bind(env, exports, "read", read);
  bind(env, exports, "write", [](Environment& e, const Info& info) {
    const Bytes bytes = From<Bytes>::get(e, info[1]);
    e.session().write(tensor(e, info[0]), bytes.data, bytes.size);
    return undefined(info);
  });
  bind(env, exports, "copy", [](Environment& e, const Info& info) {
    copy_into(e.session(), tensor(e, info[0]), tensor(e, info[1]));
    return undefined(info);
  });
  bind(env, exports, "free", [](Environment& e, const Info& info) {
    e.session().handles().free(From<int64_t>::get(e, info[0]));
    return undefined(info);
  });
  bind(env, exports, "shape", [](Environment& e, const Info& info) -> Napi::Value {
    const Tensor t = tensor(e, info[0]);
    Napi::Array out = Napi::Array::New(info.Env(), static_cast<size_t>(t->shape.rank()));
    for (int i = 0; i < t->shape.rank(); ++i) out.Set(static_cast<uint32_t>(i), to_js(info.Env(), t->shape[i]));
    return out;
  });
  bind(env, exports, "dtype", [](Environment& e, const Info& info) -> Napi::Value { return Napi::String::New(info.Env(), name_of(tensor(e, info[0])->dtype)); });
  // (id, on): an f32 tensor becomes a parameter, or frozen again; its gradient goes with that.
  bind(env, exports, "setTrainable", [](Environment& e, const Info& info) {
    const Tensor t = tensor(e, info[0]);
    const bool on = From<bool>::get(e, info[1]);
    if (on) expect_type("parameter", "a tensor", t, DType::f32);
    t->requires_grad = t->leaf = on;
    if (!on) e.session().gradient_of(t).reset();
    return undefined(info);
  });
  // (id): a frozen weight keeps the packed copy that products read, whatever the number of rows.
  bind(env, exports, "keepPacked", [](Environment& e, const Info& info) {
    tensor(e, info[0])->storage->keep_packed = true;
    return undefined(info);
  });
  bind(env, exports, "gradient", [](Environment& e, const Info& info) -> Napi::Value {  // 0: none has flowed
    const Tensor gradient = e.session().gradient_of(tensor(e, info[0]));
    return gradient ? to_js(info.Env(), e.session().handles().add(gradient, true)) : to_js(info.Env(), 0);
  });
  bind(env, exports, "zeroGradient", [](Environment& e, const Info& info) {
    e.session().gradient_of(tensor(e, info[0])).reset();
    return undefined(info);
  });
  bind(env, exports, "dropGradients", [](Environment& e, const Info& info) {  // of all parameters
    e.session().drop_gradients();
    return undefined(info);
  });
}

// recompute(fn, inputs): fn runs without the tape now, and again with it when its gradients are asked for.
std::vector<Tensor> call_with(Environment& e, const Napi::Function& fn, const std::vector<Tensor>& inputs) {
  Handles& handles = e.session().handles();
  Napi::Array ids = Napi::Array::New(fn.Env(), inputs.size());
  for (uint32_t i = 0; i < inputs.size(); ++i) ids.Set(i, to_js(fn.Env(), handles.add(inputs[i], true)));
  return From<std::vector<Tensor>>::get(e, fn.Call({ids}));
}

void recompute_backward(Environment& e, const Napi::Function& fn, const std::vector<Saved>& inputs, const std::vector<Var>& vars,
                        const std::vector<Tensor>& seeds, Gradients& g) {
  Session& s = e.session();
  std::vector<Tensor> fresh;
  for (const Saved& input : inputs) {
    const Tensor& t = input.get("recompute");
    Tensor copy = s.view(t, t->shape);
    copy->leaf = copy->requires_grad = t->requires_grad;
    fresh.push_back(copy);
  }
  auto outer = s.tape().swap_nodes({});
  s.handles().enter();
  s.tape().recording = true;
  try {
    const std::vector<Tensor> again = call_with(e, fn, fresh);
    std::vector<Tensor> outputs, given;
    for (size_t i = 0; i < again.size() && i < seeds.size(); ++i) {
      if (!seeds[i] || !again[i]->requires_grad) continue;
      outputs.push_back(again[i]), given.push_back(seeds[i]);
    }
    s.tape().backward(outputs, given);
  } catch (...) {
    s.tape().recording = false;
    s.handles().leave({});
    s.tape().swap_nodes(std::move(outer));
    throw;
  }
  s.tape().recording = false;
  s.handles().leave({});
  s.tape().swap_nodes(std::move(outer));
  for (size_t i = 0; i < fresh.size(); ++i) g.give(vars[i], std::move(s.gradient_of(fresh[i])));
}

Napi::Value recompute(Environment& e, const Info& info) {
  Session& s = e.session();
  s.handles().require_scope("recompute");
  if (!info[0].IsFunction()) fail("E_ARGUMENT", "recompute: expected a function, got something else");
  const auto fn = info[0].As<Napi::Function>();
  const std::vector<Tensor> inputs = From<std::vector<Tensor>>::get(e, info[1]);
  const bool recording = s.tape().recording;
  s.tape().recording = false;
  s.handles().enter();
  std::vector<Tensor> outputs;
  try {
    outputs = call_with(e, fn, inputs);
  } catch (...) {
    s.tape().recording = recording;
    s.handles().leave({});
    throw;
  }
  s.tape().recording = recording;
  s.handles().leave({});
  Napi::Array out = Napi::Array::New(info.Env(), outputs.size());
  std::vector<Var> results, vars(inputs.begin(), inputs.end());
  for (uint32_t i = 0; i < outputs.size(); ++i) {
    outputs[i] = s.view(outputs[i], outputs[i]->shape);  // a value of its own, even when fn returned its input
    outputs[i]->requires_grad = recording;
    results.emplace_back(outputs[i]);
    out.Set(i, to_js(info.Env(), s.handles().add(outputs[i], true)));
  }
  if (!recording) return out;
  auto held = std::make_shared<Napi::FunctionReference>(Napi::Persistent(fn));
  s.tape().record("recompute", {}, [&e, held, saved = std::vector<Saved>(inputs.begin(), inputs.end()), vars, results](Gradients& g) {
    std::vector<Tensor> seeds;
    bool any = false;
    for (const Var& result : results) seeds.push_back(g.take(result)), any = any || seeds.back();
    if (any) recompute_backward(e, held->Value(), saved, vars, seeds, g);
  });
  return out;
}

// step(entries, schedule) of an optimizer, whose arguments these are.
template <class F>
Napi::Value update(Environment& e, const Info& info, const char* optimizer, const F& step) {
  e.session().handles().require_scope(optimizer);
  const auto array = info[0].As<Napi::Array>();
  std::vector<OptimizerEntry> entries;
  for (uint32_t i = 0; i < array.Length(); ++i) {
    const auto entry = array.Get(i).As<Napi::Object>();
    const auto optional = [&](const char* key) { return From<Tensor>::get(e, entry.Get(key)); };
    const auto number = [&](const char* key) { return From<double>::get(e, entry.Get(key)); };
    entries.push_back({tensor(e, entry.Get("parameter")), optional("m"), optional("v"), optional("average"), optional("anchor"), number("decay"),
                       number("lrScale"), optional("anchor") ? number("pull") : 0});
  }
  return to_js(info.Env(), e.session().handles().add(step(entries, tensor(e, info[1])), true));
}

void bind_tape(Napi::Env env, Napi::Object& exports) {
  bind(env, exports, "enterScope", [](Environment& e, const Info& info) {
    e.session().handles().enter();
    return undefined(info);
  });
  bind(env, exports, "leaveScope", [](Environment& e, const Info& info) {
    e.session().handles().leave(From<std::vector<int64_t>>::get(e, info[0]));
    return undefined(info);
  });
  bind(env, exports, "scopeDepth", [](Environment& e, const Info& info) { return to_js(info.Env(), static_cast<int64_t>(e.session().handles().depth())); });
  bind(env, exports, "setRecording", [](Environment& e, const Info& info) -> Napi::Value {  // returns what it was
    bool& recording = e.session().tape().recording;
    const bool was = recording;
    recording = From<bool>::get(e, info[0]);
    return Napi::Boolean::New(info.Env(), was);
  });
  bind(env, exports, "clearTape", [](Environment& e, const Info& info) {
    e.session().tape().clear();
    return undefined(info);
  });
  bind(env, exports, "backward", [](Environment& e, const Info& info) {
    const auto outputs = From<std::vector<Tensor>>::get(e, info[0]);
    auto seeds = From<std::vector<Tensor>>::get(e, info[1]);
    seeds.resize(outputs.size());
    for (const Tensor& t : outputs)
      if (!t) fail("E_ARGUMENT", "backward: expected tensors, got none");
    e.session().tape().backward(outputs, seeds);
    return undefined(info);
  });
  bind(env, exports, "recompute", recompute);
  // (entries: [{parameter, m, v, average, anchor, decay, lrScale, pull}], schedule, {beta1, beta2, eps, maxNorm}) -> ‖gradient‖²
  bind(env, exports, "adamw", [](Environment& e, const Info& info) -> Napi::Value {
    const auto number = [&](const char* key) { return From<double>::get(e, info[2].As<Napi::Object>().Get(key)); };
    return update(e, info, "adamw", [&](const auto& entries, const Tensor& schedule) {
      return adamw(e.session(), entries, schedule, {number("beta1"), number("beta2"), number("eps"), number("maxNorm")});
    });
  });
  // the same with {momentum, maxNorm}; no v
  bind(env, exports, "sgd", [](Environment& e, const Info& info) -> Napi::Value {
    const auto number = [&](const char* key) { return From<double>::get(e, info[2].As<Napi::Object>().Get(key)); };
    return update(e, info, "sgd", [&](const auto& entries, const Tensor& schedule) {
      return sgd(e.session(), entries, schedule, {number("momentum"), number("maxNorm")});
    });
  });
}

Napi::Value memory_use(Environment& e, const Info& info) {
  const MemoryUse use = e.session().memory().use();
  Napi::Object out = Napi::Object::New(info.Env());
  out.Set("live", to_js(info.Env(), static_cast<int64_t>(use.live)));
  out.Set("peak", to_js(info.Env(), static_cast<int64_t>(use.peak)));
  out.Set("reserved", to_js(info.Env(), static_cast<int64_t>(use.reserved)));
  out.Set("budget", to_js(info.Env(), static_cast<int64_t>(use.budget)));
  out.Set("tensors", to_js(info.Env(), static_cast<int64_t>(e.session().handles().alive())));
  return out;
}

Napi::Value backend_info(Environment& e, const Info& info) {
  const Napi::Env env = info.Env();
  const CbDevice* device = e.session().device();
  Napi::Object out = Napi::Object::New(env);
  out.Set("device", Napi::String::New(env, e.session().backend().name));
  if (device) {
    out.Set("name", Napi::String::New(env, device->name));
    out.Set("products", Napi::String::New(env, device->products));
    out.Set("tf32", Napi::Boolean::New(env, device->tf32));
  }
  out.Set("level", Napi::String::New(env, device ? device->name : level_name(cpu_level())));
  Napi::Array levels = Napi::Array::New(env);
  for (const Level level : {Level::portable, Level::avx2, Level::avx512, Level::avx512_bf16, Level::amx})
    if (level_available(level)) levels.Set(levels.Length(), Napi::String::New(env, level_name(level)));
  out.Set("levels", levels);
  out.Set("threads", to_js(env, thread_count()));
  return out;
}

// (seed, step, site, count, first): `count` uniforms in [0, 1) of the sequence keyed by (seed, step, site)
Napi::Value uniforms(Environment& e, const Info& info) {
  const int64_t count = From<int64_t>::get(e, info[3]), first = From<int64_t>::get(e, info[4]);
  if (count < 0 || count > (int64_t{1} << 31) || first < 0) fail("E_ARGUMENT", "random: expected a count from 0 to 2^31, got %lld", static_cast<long long>(count));
  const auto seed = static_cast<uint64_t>(From<int64_t>::get(e, info[0]));
  const auto step = static_cast<uint32_t>(From<int64_t>::get(e, info[1])), site = static_cast<uint32_t>(From<int64_t>::get(e, info[2]));
  Napi::Float32Array out = Napi::Float32Array::New(info.Env(), static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) out[static_cast<size_t>(i)] = philox_uniform(seed, step, site, static_cast<uint64_t>(first + i));
  return out;
}

void bind_device(Napi::Env env, Napi::Object& exports) {
  bind(env, exports, "fence", [](Environment& e, const Info& info) -> Napi::Value {  // settles when all before it has run
    return e.settle(info.Env(), [](Napi::Env env) -> Napi::Value { return env.Undefined(); });
  });
  bind(env, exports, "passed", [](Environment& e, const Info& info) -> Napi::Value { return e.passed(info.Env()); });
  bind(env, exports, "memory", memory_use);
  bind(env, exports, "resetPeak", [](Environment& e, const Info& info) {
    e.session().memory().reset_peak();
    return undefined(info);
  });
  bind(env, exports, "setMemoryBudget", [](Environment& e, const Info& info) {
    e.session().memory().set_budget(static_cast<size_t>(From<int64_t>::get(e, info[0])));
    return undefined(info);
  });
  bind(env, exports, "trim", [](Environment& e, const Info& info) {  // waits for the stream, then gives unused memory back
    e.session().stream().drain();
    e.session().memory().trim();
    return undefined(info);
  });
  bind(env, exports, "backendInfo", backend_info);
  bind(env, exports, "setThreads", [](Environment& e, const Info& info) {
    const int64_t threads = From<int64_t>::get(e, info[0]);
    if (threads < 1 || threads > 1024) fail("E_ARGUMENT", "threads: expected 1 to 1024, got %lld", static_cast<long long>(threads));
    set_thread_count(static_cast<int>(threads));
    return undefined(info);
  });
  bind(env, exports, "random", uniforms);
}

}  // namespace

void bind_tensors(Napi::Env env, Napi::Object& exports) {
  bind_tensor(env, exports);
  bind_tape(env, exports);
  bind_device(env, exports);
}

}  // namespace cambium

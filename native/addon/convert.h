// JavaScript values to the core's types and back. Every failure is an Error with a code; `guard` turns it into a
// JavaScript error with the same code, so no C++ exception reaches the engine.
#pragma once
#include <napi.h>

#include <new>
#include <string>
#include <utility>

#include "addon/environment.h"
#include "ops/ops.h"

namespace cambium {

inline Napi::Error to_js_error(Napi::Env env, const std::string& code, const std::string& message) {
  Napi::Error error = Napi::Error::New(env, message);
  error.Set("name", Napi::String::New(env, "CambiumError"));  // what isCambiumError asks
  error.Set("code", Napi::String::New(env, code));
  error.Set("details", Napi::Object::New(env));
  return error;
}

template <class F>
Napi::Value guard(Napi::Env env, const F& body) {
  try {
    return body();
  } catch (const Error& error) {
    throw to_js_error(env, error.code(), error.what());
  } catch (const std::bad_alloc&) {
    throw to_js_error(env, "E_OUT_OF_MEMORY", "addon: expected free host memory, got none");
  }
}

// One conversion per type that an op takes.
template <class T>
struct From;

template <>
struct From<double> {
  static double get(Environment&, const Napi::Value& value) {
    if (!value.IsNumber()) fail("E_ARGUMENT", "argument: expected a number, got something else");
    return value.As<Napi::Number>().DoubleValue();
  }
};
template <>
struct From<int64_t> {
  static int64_t get(Environment& e, const Napi::Value& value) {
    const double number = From<double>::get(e, value);
    if (!(number >= -9007199254740991.0 && number <= 9007199254740991.0) || number != static_cast<double>(static_cast<int64_t>(number)))
      fail("E_ARGUMENT", "argument: expected an integer, got %g", number);
    return static_cast<int64_t>(number);
  }
};
template <>
struct From<bool> {
  static bool get(Environment&, const Napi::Value& value) { return value.ToBoolean().Value(); }
};
template <>
struct From<std::string> {
  static std::string get(Environment&, const Napi::Value& value) {
    if (!value.IsString()) fail("E_ARGUMENT", "argument: expected a string, got something else");
    return value.As<Napi::String>().Utf8Value();
  }
};
template <>
struct From<DType> {
  static DType get(Environment& e, const Napi::Value& value) { return dtype_from(From<std::string>::get(e, value)); }
};
template <>
struct From<Tensor> {  // undefined, null and 0 are no tensor
  static Tensor get(Environment& e, const Napi::Value& value) {
    if (value.IsUndefined() || value.IsNull()) return nullptr;
    const int64_t id = From<int64_t>::get(e, value);
    return id == 0 ? nullptr : e.session().handles().get(id);
  }
};
template <>
struct From<Shape> {
  static Shape get(Environment& e, const Napi::Value& value) {
    if (!value.IsArray()) fail("E_ARGUMENT", "shape: expected an array of sizes, got something else");
    const auto array = value.As<Napi::Array>();
    Shape shape;
    for (uint32_t i = 0; i < array.Length(); ++i) shape.push(From<int64_t>::get(e, array.Get(i)));
    return shape;
  }
};
template <>
struct From<LowRankOptions> {
  static LowRankOptions get(Environment& e, const Napi::Value& value) {
    if (!value.IsObject()) fail("E_ARGUMENT", "linear: expected low-rank deltas as objects, got something else");
    const auto object = value.As<Napi::Object>();
    const auto tensor = [&](const char* name) { return From<Tensor>::get(e, object.Get(name)); };
    return {tensor("a"), tensor("b"), tensor("scale"), tensor("bias"), tensor("x"), From<int64_t>::get(e, object.Get("column"))};
  }
};
template <>
struct From<BranchOptions> {  // undefined: no branch
  static BranchOptions get(Environment& e, const Napi::Value& value) {
    if (value.IsUndefined()) return {};
    if (!value.IsObject()) fail("E_ARGUMENT", "attention: expected extra keys and values as an object, got something else");
    const auto object = value.As<Napi::Object>();
    const auto tensor = [&](const char* name) { return From<Tensor>::get(e, object.Get(name)); };
    return {tensor("keys"), tensor("values"), tensor("index"), tensor("weight"), From<bool>::get(e, object.Get("joint"))};
  }
};
template <>
struct From<CrossEntropyOptions> {
  static CrossEntropyOptions get(Environment& e, const Napi::Value& value) {
    if (!value.IsObject()) fail("E_ARGUMENT", "cross_entropy: expected an options object, got something else");
    const auto object = value.As<Napi::Object>();
    const auto tensor = [&](const char* name) { return From<Tensor>::get(e, object.Get(name)); };
    return {tensor("labels"), tensor("teacher"), tensor("scale"), From<bool>::get(e, object.Get("logScale")), From<double>::get(e, object.Get("smoothing")),
            From<double>::get(e, object.Get("temperature"))};
  }
};
template <class T>
struct From<std::vector<T>> {
  static std::vector<T> get(Environment& e, const Napi::Value& value) {
    if (!value.IsArray()) fail("E_ARGUMENT", "argument: expected an array, got something else");
    const auto array = value.As<Napi::Array>();
    std::vector<T> out;
    for (uint32_t i = 0; i < array.Length(); ++i) out.push_back(From<T>::get(e, array.Get(i)));
    return out;
  }
};
template <>
struct From<LinearOptions> {
  static LinearOptions get(Environment& e, const Napi::Value& value) {
    if (!value.IsObject()) fail("E_ARGUMENT", "linear: expected an options object, got something else");
    const auto object = value.As<Napi::Object>();
    LinearOptions o;
    o.bias = From<Tensor>::get(e, object.Get("bias"));
    o.gate = From<Tensor>::get(e, object.Get("gate"));
    o.residual = From<Tensor>::get(e, object.Get("residual"));
    o.skip = From<Tensor>::get(e, object.Get("skip"));
    o.column_scale = From<Tensor>::get(e, object.Get("columnScale"));
    o.index = From<Tensor>::get(e, object.Get("index"));
    o.offsets = From<Tensor>::get(e, object.Get("offsets"));
    o.low_rank = From<std::vector<LowRankOptions>>::get(e, object.Get("lowRank"));
    o.transposed = From<bool>::get(e, object.Get("transposed"));
    o.out = From<DType>::get(e, object.Get("dtype"));
    const std::string activation = From<std::string>::get(e, object.Get("activation"));
    o.activation = activation == "none" ? CB_ACT_NONE : activation == "quick_gelu" ? CB_ACT_QUICK_GELU : activation == "gelu" ? CB_ACT_GELU : -1;
    return o;
  }
};

// The bytes of a typed array, DataView or ArrayBuffer (any element type: node-addon-api does not know them all).
struct Bytes {
  const uint8_t* data = nullptr;
  size_t size = 0;
};
template <>
struct From<Bytes> {
  static Bytes get(Environment&, const Napi::Value& value) {
    void* data = nullptr;
    if (value.IsArrayBuffer()) {
      auto buffer = value.As<Napi::ArrayBuffer>();
      return {static_cast<const uint8_t*>(buffer.Data()), buffer.ByteLength()};
    }
    if (value.IsTypedArray()) {
      napi_typedarray_type type;
      size_t length = 0, offset = 0;
      napi_value buffer;
      if (napi_get_typedarray_info(value.Env(), value, &type, &length, &data, &buffer, &offset) != napi_ok) fail("E_ARGUMENT", "bytes: expected a typed array, got one that cannot be read");
      const auto view = value.As<Napi::Object>().Get("byteLength");
      return {static_cast<const uint8_t*>(data), static_cast<size_t>(view.As<Napi::Number>().Int64Value())};
    }
    if (value.IsDataView()) {
      const auto view = value.As<Napi::DataView>();
      return {static_cast<const uint8_t*>(view.Data()), view.ByteLength()};
    }
    fail("E_ARGUMENT", "bytes: expected a typed array or ArrayBuffer, got something else");
  }
};

inline Napi::Value to_js(Napi::Env env, int64_t id) { return Napi::Number::New(env, static_cast<double>(id)); }

}  // namespace cambium

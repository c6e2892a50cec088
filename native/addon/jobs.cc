// Work on files and images, off the JavaScript thread: on Node's worker pool, except for reads into a tensor, which
// take their turn in the stream because the tensor's memory is stream-ordered.
#include <cstring>
#include <limits>
#include <type_traits>

#include "addon/job.h"
#include "io/preprocess.h"
#include "linalg/product.h"

namespace cambium {
namespace {

Napi::Value read_tensor_bytes(Environment& e, const Info& info) {
  const Napi::Object o = object_at(info, 0, "readTensor");
  const ElementType to = element_type(field<std::string>(e, o, "to"));
  const TensorRead request = read_request(e, o, to);
  auto bytes = std::make_shared<std::vector<char>>(request.count * element_size(to));
  return Job::start(
      info.Env(), [request, bytes] { return read_tensor(request, bytes->data()); },
      [bytes](Napi::Env env) -> Napi::Value {
        Napi::ArrayBuffer out = Napi::ArrayBuffer::New(env, bytes->size());
        std::memcpy(out.Data(), bytes->data(), bytes->size());
        return out;
      });
}

Napi::Value read_tensor_into(Environment& e, const Info& info) {
  const Tensor t = From<Tensor>::get(e, info[0]);
  if (!t) fail("E_ARGUMENT", "readTensorInto: expected a tensor, got none");
  constexpr const char* kNames[] = {"F32", "BF16", "F16", "I32", "I64", "U8"};
  const TensorRead request = read_request(e, object_at(info, 1, "readTensorInto"), element_type(kNames[code(t->dtype)]));
  // Several stored tensors may fill one: `at` is where this one starts, in elements.
  const int64_t at = info[2].IsUndefined() ? 0 : From<int64_t>::get(e, info[2]);
  if (at < 0 || at > t->count() || static_cast<int64_t>(request.count) > t->count() - at)
    fail("E_SHAPE", "readTensorInto: expected at most %lld elements from %lld on, got %llu", static_cast<long long>(t->count()), static_cast<long long>(at),
         static_cast<unsigned long long>(request.count));
  e.session().touched(t);
  auto failure = std::make_shared<Failure>();
  e.session().stream().enqueue("readTensorInto", [&s = e.session(), request, failure, to = t->data<char>() + static_cast<size_t>(at) * size_of(t->dtype),
                                                  bytes = request.count * size_of(t->dtype)](CbContext* context) {
    const bool host = s.device() == nullptr;
    std::unique_ptr<char[]> staging(host ? nullptr : new (std::nothrow) char[bytes]);  // a device's memory is not the host's
    if (!host && !staging) return static_cast<int>(CB_OUT_OF_MEMORY);
    const IoStatus status = read_tensor(request, host ? to : staging.get());
    if (!status.ok()) *failure = {status.code, status.message};
    if (host || !status.ok()) return static_cast<int>(CB_OK);
    return s.send(context, to, staging.get(), bytes);
  });
  return e.settle(info.Env(), failure, [](Napi::Env env) -> Napi::Value { return env.Undefined(); });
}

template <class T>
void numbers(Environment& e, const Napi::Object& o, const char* key, T* out, uint32_t count) {
  const auto list = From<std::vector<double>>::get(e, o.Get(key));
  if (list.size() != count) fail("E_ARGUMENT", "%s: expected %u numbers, got %zu", key, count, list.size());
  for (uint32_t i = 0; i < count; ++i) {
    if (std::is_integral<T>::value && !(list[i] >= std::numeric_limits<T>::lowest() && list[i] <= std::numeric_limits<T>::max()))
      fail("E_ARGUMENT", "%s: expected whole numbers of 32 bits, got %g", key, list[i]);
    out[i] = static_cast<T>(list[i]);
  }
}

Resample resample(Environment& e, const Napi::Object& o) {
  const std::string name = field<std::string>(e, o, "resample");
  Resample out;
  if (!resample_from_name(name.c_str(), &out)) fail("E_ARGUMENT", "resample: expected nearest, lanczos, bilinear, bicubic, box or hamming, got '%s'", name.c_str());
  return out;
}

struct Image {
  Bytes bytes;
  int width, height;
};
Image image(Environment& e, const Info& info) {
  const Bytes bytes = From<Bytes>::get(e, info[0]);
  const int64_t width = From<int64_t>::get(e, info[1]), height = From<int64_t>::get(e, info[2]);
  if (width < 1 || height < 1 || width > 65535 || height > 65535 || bytes.size != static_cast<size_t>(width) * static_cast<size_t>(height) * 3)
    fail("E_SHAPE", "image: expected width·height·3 bytes of RGB, got %zu for %lld x %lld", bytes.size, static_cast<long long>(width), static_cast<long long>(height));
  return {bytes, static_cast<int>(width), static_cast<int>(height)};
}

// (rgb, width, height, plan) -> Float32Array [3, H, W]
Napi::Value preprocess_image(Environment& e, const Info& info) {
  const Image in = image(e, info);
  const Napi::Object o = object_at(info, 3, "preprocessImage");
  PreprocessPlan plan;
  int box[4];
  if ((plan.has_box = has(o, "box"))) numbers(e, o, "box", box, 4), plan.box = {box[0], box[1], box[2], box[3]};
  if ((plan.has_crop = has(o, "crop"))) numbers(e, o, "crop", box, 4), plan.crop = {box[0], box[1], box[2], box[3]};
  numbers(e, o, "resize", box, 2), plan.resize_width = box[0], plan.resize_height = box[1];
  plan.resample = resample(e, o);
  plan.flip = has(o, "flip") && field<bool>(e, o, "flip");
  if (has(o, "rescale")) plan.rescale = field<double>(e, o, "rescale");
  numbers(e, o, "mean", plan.mean, 3), numbers(e, o, "std", plan.std, 3);
  const int64_t height = preprocess_height(plan), width = preprocess_width(plan);
  if (height < 1 || width < 1 || height > 8192 || width > 8192) fail("E_SHAPE", "preprocessImage: expected a result of 1 to 8192 pixels a side, got %lld x %lld", static_cast<long long>(width), static_cast<long long>(height));
  auto out = std::make_shared<std::vector<float>>(static_cast<size_t>(3 * height * width));
  return Job::start(
      info.Env(), [in, plan, out] { return preprocess_rgb(in.bytes.data, in.width, in.height, plan, out->data()); },
      [out](Napi::Env env) -> Napi::Value {
        Napi::Float32Array array = Napi::Float32Array::New(env, out->size());
        std::memcpy(array.Data(), out->data(), out->size() * 4);
        return array;
      },
      {info[0]});
}

// (rgb, width, height, {box?: [left, top, right, bottom], outWidth, outHeight, resample, flip?}) -> Uint8Array
Napi::Value resize_image(Environment& e, const Info& info) {
  const Image in = image(e, info);
  const Napi::Object o = object_at(info, 3, "resizeImage");
  const int64_t width = field<int64_t>(e, o, "outWidth"), height = field<int64_t>(e, o, "outHeight");
  if (width < 1 || height < 1 || width > 65535 || height > 65535) fail("E_SHAPE", "resizeImage: expected a size of 1 to 65535 a side, got %lld x %lld", static_cast<long long>(width), static_cast<long long>(height));
  const bool boxed = has(o, "box"), flip = has(o, "flip") && field<bool>(e, o, "flip");
  float box[4] = {};
  if (boxed) numbers(e, o, "box", box, 4);
  const Resample how = resample(e, o);
  auto out = std::make_shared<std::vector<uint8_t>>(static_cast<size_t>(width) * static_cast<size_t>(height) * 3);
  return Job::start(
      info.Env(),
      [=] {
        const RgbView view{in.bytes.data, in.width, in.height, static_cast<size_t>(in.width) * 3};
        const ResizeBox part{box[0], box[1], box[2], box[3]};
        IoStatus status = resize_rgb(view, boxed ? &part : nullptr, how, static_cast<int>(width), static_cast<int>(height), out->data());
        if (status.ok() && flip) flip_rgb_horizontal(out->data(), static_cast<int>(width), static_cast<int>(height));
        return status;
      },
      [out](Napi::Env env) -> Napi::Value {
        Napi::Uint8Array array = Napi::Uint8Array::New(env, out->size());
        std::memcpy(array.Data(), out->data(), out->size());
        return array;
      },
      {info[0]});
}

// ({a, b, m, k, n, transposeA?, alpha?, add?}) -> Float32Array [m, n] = add + alpha · a b, summed in f64, rounded once.
Napi::Value product(Environment& e, const Info& info) {
  const Napi::Object o = object_at(info, 0, "product");
  Product p;
  p.m = field<int64_t>(e, o, "m"), p.k = field<int64_t>(e, o, "k"), p.n = field<int64_t>(e, o, "n");
  p.transpose_a = has(o, "transposeA") && field<bool>(e, o, "transposeA");
  p.alpha = has(o, "alpha") ? field<double>(e, o, "alpha") : 1.0;
  const Bytes a = field<Bytes>(e, o, "a"), b = field<Bytes>(e, o, "b"), add = has(o, "add") ? field<Bytes>(e, o, "add") : Bytes{};
  const auto floats = [](int64_t rows, int64_t columns) { return rows < 0 || columns < 0 || rows > (1 << 24) || columns > (1 << 24) ? SIZE_MAX : static_cast<size_t>(rows * columns) * 4; };
  if (a.size != floats(p.m, p.k) || b.size != floats(p.k, p.n) || (add.data && add.size != floats(p.m, p.n)))
    fail("E_SHAPE", "product: expected f32 matrices [m,k], [k,n], [m,n], got %zu, %zu and %zu bytes", a.size, b.size, add.size);
  p.a = reinterpret_cast<const float*>(a.data), p.b = reinterpret_cast<const float*>(b.data), p.add = reinterpret_cast<const float*>(add.data);
  auto out = std::make_shared<std::vector<float>>(static_cast<size_t>(p.m * p.n));
  std::vector<Napi::Value> pin{o.Get("a"), o.Get("b")};
  if (add.data) pin.push_back(o.Get("add"));
  return Job::start(
      info.Env(),
      [p, out] {
        product_f64(p, out->data());
        return IoStatus{};
      },
      [out](Napi::Env env) -> Napi::Value {
        Napi::Float32Array array = Napi::Float32Array::New(env, out->size());
        std::memcpy(array.Data(), out->data(), out->size() * 4);
        return array;
      },
      pin);
}

}  // namespace

void bind_jobs(Napi::Env env, Napi::Object& exports) {
  bind(env, exports, "readTensor", read_tensor_bytes);
  bind(env, exports, "readTensorInto", read_tensor_into);
  bind(env, exports, "preprocessImage", preprocess_image);
  bind(env, exports, "resizeImage", resize_image);
  bind(env, exports, "product", product);
}

}  // namespace cambium

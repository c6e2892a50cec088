// Decompositions, off the JavaScript thread.
#include <cstring>

#include "addon/job.h"
#include "linalg/qr.h"
#include "linalg/svd.h"

namespace cambium {
namespace {

using Doubles = std::vector<double>;

struct Matrix {
  int64_t m, n;
  Doubles values;  // [m][n]
};

// {a, m, n}: copied at the call, so that the caller may write to it again.
std::shared_ptr<Matrix> matrix(Environment& e, const Napi::Object& o, const char* what) {
  const int64_t m = field<int64_t>(e, o, "m"), n = field<int64_t>(e, o, "n");
  if (m < 1 || n < 1 || m > (1 << 24) || n > (1 << 24)) fail("E_SHAPE", "%s: expected sides of 1 to 2^24, got [%lld, %lld]", what, static_cast<long long>(m), static_cast<long long>(n));
  const Bytes a = field<Bytes>(e, o, "a");
  const size_t count = static_cast<size_t>(m) * static_cast<size_t>(n);
  if (a.size != 4 * count && a.size != 8 * count) fail("E_SHAPE", "%s: expected [%lld, %lld] of f32 or f64, got %zu bytes", what, static_cast<long long>(m), static_cast<long long>(n), a.size);
  auto out = std::make_shared<Matrix>(Matrix{m, n, Doubles(count)});
  if (a.size == 8 * count) {
    std::memcpy(out->values.data(), a.data, a.size);
  } else {
    float value;
    for (size_t i = 0; i < count; ++i) std::memcpy(&value, a.data + 4 * i, 4), out->values[i] = static_cast<double>(value);
  }
  return out;
}

Napi::Value array(Napi::Env env, const Doubles& values) {
  Napi::Float64Array out = Napi::Float64Array::New(env, values.size());
  std::memcpy(out.Data(), values.data(), values.size() * 8);
  return out;
}

// Vectors [k][size] as the columns of a matrix [size][k].
Doubles as_columns(const Doubles& vectors, int64_t k, int64_t size) {
  Doubles out(vectors.size());
  for (int64_t i = 0; i < size; ++i) {
    for (int64_t j = 0; j < k; ++j) out[static_cast<size_t>(i * k + j)] = vectors[static_cast<size_t>(j * size + i)];
  }
  return out;
}

Napi::Value svd_job(Environment& e, const Info& info) {
  const Napi::Object o = object_at(info, 0, "svd");
  const auto a = matrix(e, o, "svd");
  const int64_t least = a->m < a->n ? a->m : a->n, rank = has(o, "rank") ? field<int64_t>(e, o, "rank") : least;
  if (rank < 1 || rank > least) fail("E_SHAPE", "svd: expected a rank of 1 to %lld, got %lld", static_cast<long long>(least), static_cast<long long>(rank));
  const bool randomized = has(o, "randomized");
  Randomized options;
  if (randomized) {
    const Napi::Object r = o.Get("randomized").As<Napi::Object>();
    if (has(r, "seed")) options.seed = static_cast<uint64_t>(field<int64_t>(e, r, "seed"));
    if (has(r, "oversample")) options.oversample = field<int64_t>(e, r, "oversample");
    if (has(r, "iterations")) options.iterations = field<int64_t>(e, r, "iterations");
    if (options.oversample < 0 || options.iterations < 0) fail("E_ARGUMENT", "svd: expected oversample and iterations of at least 0, got a negative one");
  }
  auto out = std::make_shared<Svd>();
  return Job::start(
      info.Env(),
      [=] {
        const bool finite = randomized ? svd_randomized(a->values, a->m, a->n, rank, options, out.get()) : svd(a->values, a->m, a->n, rank, out.get());
        if (!finite) return IoStatus::error("E_NOT_FINITE", "svd: expected finite numbers, got NaN or infinity");
        a->values = Doubles();
        out->u = as_columns(out->u, rank, a->m), out->v = as_columns(out->v, rank, a->n);
        return IoStatus{};
      },
      [out](Napi::Env env) -> Napi::Value {
        Napi::Object result = Napi::Object::New(env);
        result.Set("u", array(env, out->u)), result.Set("s", array(env, out->s)), result.Set("v", array(env, out->v));
        return result;
      });
}

Napi::Value qr_job(Environment& e, const Info& info) {
  const auto a = matrix(e, object_at(info, 0, "qr"), "qr");
  auto q = std::make_shared<Doubles>(), r = std::make_shared<Doubles>();
  return Job::start(
      info.Env(),
      [=] {
        const int64_t k = a->m < a->n ? a->m : a->n;
        const Qr qr(as_columns(a->values, a->m, a->n), a->m, a->n);
        *q = as_columns(qr.q(k), k, a->m);
        r->resize(static_cast<size_t>(k * a->n));
        for (int64_t i = 0; i < k; ++i) {
          for (int64_t j = 0; j < a->n; ++j) (*r)[static_cast<size_t>(i * a->n + j)] = qr.r(i, j);
        }
        return IoStatus{};
      },
      [=](Napi::Env env) -> Napi::Value {
        Napi::Object result = Napi::Object::New(env);
        result.Set("q", array(env, *q)), result.Set("r", array(env, *r));
        return result;
      });
}

}  // namespace

void bind_linalg(Napi::Env env, Napi::Object& exports) {
  bind(env, exports, "svd", svd_job);
  bind(env, exports, "qr", qr_job);
}

}  // namespace cambium

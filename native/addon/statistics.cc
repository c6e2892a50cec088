// Moments of features and Gaussians over them, off the JavaScript thread. Arrays that are only read are pinned, not copied: the
// caller leaves them alone until the promise settles.
#include <cstring>

#include "addon/job.h"
#include "linalg/cholesky.h"
#include "linalg/moments.h"

namespace cambium {
namespace {

constexpr int64_t kWidest = 1 << 14;  // of a covariance: a gigabyte

int64_t dimension_at(Environment& e, const Napi::Object& o, const char* what) {
  const int64_t d = field<int64_t>(e, o, "dimension");
  if (d < 1 || d > kWidest) fail("E_SHAPE", "%s: expected a dimension of 1 to %lld, got %lld", what, static_cast<long long>(kWidest), static_cast<long long>(d));
  return d;
}

// A typed array of `count` elements of T; its type is told by its size.
template <class T>
T* array_at(Environment& e, const Napi::Object& o, const char* key, int64_t count) {
  const Bytes bytes = field<Bytes>(e, o, key);
  if (bytes.size != static_cast<size_t>(count) * sizeof(T))
    fail("E_SHAPE", "%s: expected %lld elements of %zu bytes, got %zu bytes", key, static_cast<long long>(count), sizeof(T), bytes.size);
  return const_cast<T*>(reinterpret_cast<const T*>(bytes.data));
}

struct Rows {
  const float* data;
  int64_t count;
};
Rows rows_at(Environment& e, const Napi::Object& o, int64_t d) {
  const Bytes bytes = field<Bytes>(e, o, "rows");
  const int64_t size = d * 4;
  if (static_cast<int64_t>(bytes.size) % size != 0) fail("E_SHAPE", "rows: expected f32 [N, %lld], got %zu bytes", static_cast<long long>(d), bytes.size);
  return {reinterpret_cast<const float*>(bytes.data), static_cast<int64_t>(bytes.size) / size};
}

Napi::Float64Array doubles(Napi::Env env, const std::vector<double>& values) {
  Napi::Float64Array out = Napi::Float64Array::New(env, values.size());
  std::memcpy(out.Data(), values.data(), values.size() * 8);
  return out;
}

// {moments, dimension, rows}: adds rows to moments, in place.
Napi::Value add_moments_job(Environment& e, const Info& info) {
  const Napi::Object o = object_at(info, 0, "addMoments");
  const int64_t d = dimension_at(e, o, "addMoments");
  double* moments = array_at<double>(e, o, "moments", Moments::size(d));
  const Rows rows = rows_at(e, o, d);
  return Job::start(
      info.Env(),
      [=] {
        Moments(moments, d).add(rows.data, rows.count);
        return IoStatus{};
      },
      [](Napi::Env env) -> Napi::Value { return env.Undefined(); }, {o.Get("moments"), o.Get("rows")});
}

// {moments, dimension} -> {count, mean, covariance, ledoitWolf}
Napi::Value covariance_job(Environment& e, const Info& info) {
  const Napi::Object o = object_at(info, 0, "covariance");
  const int64_t d = dimension_at(e, o, "covariance");
  double* moments = array_at<double>(e, o, "moments", Moments::size(d));
  if (!(moments[0] >= 1)) fail("E_DATA", "covariance: expected moments of at least one row, got none");
  auto found = std::make_shared<Moments::Covariance>();
  return Job::start(
      info.Env(),
      [=] {
        *found = Moments(moments, d).covariance();
        return IoStatus{};
      },
      [found](Napi::Env env) -> Napi::Value {
        Napi::Object result = Napi::Object::New(env);
        result.Set("count", Napi::Number::New(env, found->count));
        result.Set("mean", doubles(env, found->mean)), result.Set("covariance", doubles(env, found->packed));
        result.Set("ledoitWolf", Napi::Number::New(env, found->ledoit_wolf));
        return result;
      },
      {o.Get("moments")});
}

// {covariance, dimension, keep, shrink, ridge} -> {factor, logDeterminant} of keep C + (shrink tr(C) / D + ridge) I
Napi::Value factor_job(Environment& e, const Info& info) {
  const Napi::Object o = object_at(info, 0, "gaussianFactor");
  const int64_t d = dimension_at(e, o, "gaussianFactor");
  const double* covariance = array_at<double>(e, o, "covariance", packed_size(d));
  const double keep = field<double>(e, o, "keep"), shrink = field<double>(e, o, "shrink"), ridge = field<double>(e, o, "ridge");
  auto factor = std::make_shared<std::vector<double>>(covariance, covariance + packed_size(d));
  return Job::start(
      info.Env(),
      [=] {
        double trace = 0;
        for (int64_t i = 0; i < d; ++i) trace += (*factor)[static_cast<size_t>(packed_size(i) + i)];
        for (double& value : *factor) value *= keep;
        for (int64_t i = 0; i < d; ++i) (*factor)[static_cast<size_t>(packed_size(i) + i)] += shrink * trace / static_cast<double>(d) + ridge;
        const int64_t row = cholesky(factor->data(), d);
        if (row < 0) return IoStatus{};
        return IoStatus::error("E_NOT_POSITIVE", "gaussian: expected a positive definite covariance, got none at row " + std::to_string(row) + " of " + std::to_string(d) + "; more samples, shrinkage or a ridge mend it");
      },
      [factor, d](Napi::Env env) -> Napi::Value {
        Napi::Object result = Napi::Object::New(env);
        result.Set("factor", doubles(env, *factor));
        result.Set("logDeterminant", Napi::Number::New(env, log_determinant(factor->data(), d)));
        return result;
      });
}

// {mean, factor, logDeterminant, dimension, rows} -> f64 [N]
Napi::Value log_density_job(Environment& e, const Info& info) {
  const Napi::Object o = object_at(info, 0, "logDensity");
  const int64_t d = dimension_at(e, o, "logDensity");
  const double* mean = array_at<double>(e, o, "mean", d);
  const double* factor = array_at<double>(e, o, "factor", packed_size(d));
  const double determinant = field<double>(e, o, "logDeterminant");
  const Rows rows = rows_at(e, o, d);
  auto out = std::make_shared<std::vector<double>>(static_cast<size_t>(rows.count));
  return Job::start(
      info.Env(),
      [=] {
        log_density({mean, factor, d, determinant}, rows.data, rows.count, out->data());
        return IoStatus{};
      },
      [out](Napi::Env env) -> Napi::Value { return doubles(env, *out); }, {o.Get("mean"), o.Get("factor"), o.Get("rows")});
}

}  // namespace

void bind_statistics(Napi::Env env, Napi::Object& exports) {
  bind(env, exports, "addMoments", add_moments_job);
  bind(env, exports, "covariance", covariance_job);
  bind(env, exports, "gaussianFactor", factor_job);
  bind(env, exports, "logDensity", log_density_job);
}

}  // namespace cambium

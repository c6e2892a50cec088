// Writing files of merged checkpoints, off the JavaScript thread. Every size is checked here against every other, so that
// the work below never leaves a buffer.
#include <cstring>

#include "addon/job.h"
#include "io/merge_file.h"

namespace cambium {
namespace {

int64_t size_at(Environment& e, const Napi::Object& o, const char* key) {
  const int64_t value = field<int64_t>(e, o, key);
  if (value < 0) fail("E_ARGUMENT", "%s: expected at least 0, got %lld", key, static_cast<long long>(value));
  return value;
}

// A Float32Array, copied, or a request to read.
FactorSource factor(Environment& e, const Napi::Object& o, const char* key, int64_t count) {
  FactorSource out;
  if (!has(o, key)) return out;
  out.present = true;
  uint64_t given = 0;
  if (o.Get(key).IsTypedArray()) {
    const Bytes bytes = field<Bytes>(e, o, key);
    given = bytes.size / 4;
    out.values = std::make_shared<std::vector<double>>(given);
    float value;
    for (size_t i = 0; i < given; ++i) std::memcpy(&value, bytes.data + 4 * i, 4), (*out.values)[i] = static_cast<double>(value);
  } else {
    if (!o.Get(key).IsObject()) fail("E_ARGUMENT", "%s: expected numbers or where to read them, got something else", key);
    out.read = read_request(e, o.Get(key).As<Napi::Object>(), ElementType::kF64);
    given = out.read.count;
  }
  if (given != static_cast<uint64_t>(count)) fail("E_SHAPE", "%s: expected %lld elements, got %llu", key, static_cast<long long>(count), static_cast<unsigned long long>(given));
  return out;
}

FoldStepSource step(Environment& e, const Napi::Object& o, int64_t rows, int64_t columns) {
  FoldStepSource out;
  const bool low_rank = has(o, "q");
  out.first = has(o, "first") ? size_at(e, o, "first") : 0, out.count = has(o, "count") ? size_at(e, o, "count") : rows - out.first;
  if (out.first > rows || out.count > rows - out.first || out.count < 0) fail("E_RANGE", "step: expected rows inside %lld, got others", static_cast<long long>(rows));
  if (low_rank) out.rank = size_at(e, o, "rank");
  if (out.rank > (1 << 24)) fail("E_SHAPE", "rank: expected at most 2^24, got %lld", static_cast<long long>(out.rank));
  out.p = factor(e, o, "p", out.count * (low_rank ? out.rank : columns));
  out.q = factor(e, o, "q", out.rank * columns);
  if (!out.p.present) fail("E_ARGUMENT", "p: expected a factor, got none");
  if (has(o, "scale")) out.scale = field<double>(e, o, "scale");
  if (has(o, "weight")) out.weight = field<double>(e, o, "weight");
  if (has(o, "norm")) {
    out.norm = field<std::string>(e, o, "norm") == "rows" ? FoldStep::kRows : FoldStep::kColumns;
    out.magnitude = factor(e, o, "magnitude", out.norm == FoldStep::kRows ? out.count : columns);
    if (!out.magnitude.present) fail("E_ARGUMENT", "magnitude: expected a factor, got none");
  }
  return out;
}

MergeSegment segment(Environment& e, const Napi::Object& o, const MergeFile& plan) {
  MergeSegment out;
  out.source = static_cast<size_t>(size_at(e, o, "source"));
  if (out.source >= plan.sources.size()) fail("E_RANGE", "source: expected one of %zu files, got %zu", plan.sources.size(), out.source);
  out.from = static_cast<uint64_t>(size_at(e, o, "from")), out.to = static_cast<uint64_t>(size_at(e, o, "to"));
  out.bytes = static_cast<uint64_t>(size_at(e, o, "bytes"));
  uint64_t written = out.bytes;
  if (has(o, "fold")) {
    const Napi::Object fold = o.Get("fold").As<Napi::Object>();
    out.name = field<std::string>(e, fold, "name");
    out.rows = size_at(e, fold, "rows"), out.columns = size_at(e, fold, "columns");
    out.from_type = element_type(field<std::string>(e, fold, "fromType")), out.to_type = element_type(field<std::string>(e, fold, "toType"));
    if (out.rows < 1 || out.columns < 1 || out.rows > (int64_t{1} << 40) / out.columns) fail("E_SHAPE", "%s: expected a matrix of 1 to 2^40 elements, got another", out.name.c_str());
    const uint64_t count = static_cast<uint64_t>(out.rows * out.columns);
    if (out.bytes != count * element_size(out.from_type)) fail("E_SHAPE", "%s: expected %llu elements, got %llu bytes", out.name.c_str(), static_cast<unsigned long long>(count), static_cast<unsigned long long>(out.bytes));
    written = count * element_size(out.to_type);
    const auto steps = fold.Get("steps").As<Napi::Array>();
    for (uint32_t i = 0; i < steps.Length(); ++i) out.steps.push_back(step(e, steps.Get(i).As<Napi::Object>(), out.rows, out.columns));
  }
  if (out.to > plan.size || written > plan.size - out.to) fail("E_RANGE", "segment: expected a range inside %llu bytes, got one that ends behind them", static_cast<unsigned long long>(plan.size));
  return out;
}

std::shared_ptr<MergeFile> merge_plan(Environment& e, const Info& info) {
  const Napi::Object o = object_at(info, 0, "mergeFile");
  auto plan = std::make_shared<MergeFile>();
  const auto sources = o.Get("sources").As<Napi::Array>();
  for (uint32_t i = 0; i < sources.Length(); ++i) {
    const Napi::Object source = sources.Get(i).As<Napi::Object>();
    plan->sources.push_back({field<std::string>(e, source, "path"), static_cast<uint64_t>(size_at(e, source, "size"))});
  }
  plan->target = field<std::string>(e, o, "target"), plan->size = static_cast<uint64_t>(size_at(e, o, "size"));
  const Bytes header = field<Bytes>(e, o, "header");
  plan->header.assign(header.data, header.data + header.size);
  if (header.size > plan->size) fail("E_RANGE", "header: expected at most %llu bytes, got %zu", static_cast<unsigned long long>(plan->size), header.size);
  plan->finite = has(o, "finite") && field<bool>(e, o, "finite");
  const auto segments = o.Get("segments").As<Napi::Array>();
  for (uint32_t i = 0; i < segments.Length(); ++i) plan->segments.push_back(segment(e, segments.Get(i).As<Napi::Object>(), *plan));
  return plan;
}

// (plan, control) -> how many results of each segment are not finite
Napi::Value merge_file_job(Environment& e, const Info& info) {
  const auto plan = merge_plan(e, info);
  const Bytes words = From<Bytes>::get(e, info[1]);
  if (words.size != 16 || reinterpret_cast<uintptr_t>(words.data) % 8 != 0) fail("E_ARGUMENT", "control: expected two 64-bit words, got %zu bytes", words.size);
  auto* control = reinterpret_cast<int64_t*>(const_cast<uint8_t*>(words.data));
  auto non_finite = std::make_shared<std::vector<int64_t>>();
  return Job::start(
      info.Env(), [=] { return merge_file(*plan, {control, control + 1}, non_finite.get()); },
      [=](Napi::Env env) -> Napi::Value {
        Napi::Array out = Napi::Array::New(env, non_finite->size());
        for (size_t i = 0; i < non_finite->size(); ++i) out.Set(static_cast<uint32_t>(i), to_js(env, (*non_finite)[i]));
        return out;
      },
      {info[1]});
}

// (plan, segment, stride) -> FoldDrift
Napi::Value measure_drift_job(Environment& e, const Info& info) {
  const auto plan = merge_plan(e, info);
  const int64_t index = From<int64_t>::get(e, info[1]), stride = From<int64_t>::get(e, info[2]);
  if (index < 0 || static_cast<size_t>(index) >= plan->segments.size() || plan->segments[static_cast<size_t>(index)].rows == 0 || stride < 1) fail("E_RANGE", "measureDrift: expected a folded segment and a stride of at least 1, got others");
  auto drift = std::make_shared<FoldDrift>();
  return Job::start(
      info.Env(), [=] { return measure_drift(*plan, plan->segments[static_cast<size_t>(index)], stride, drift.get()); },
      [=](Napi::Env env) -> Napi::Value {
        Napi::Object out = Napi::Object::New(env);
        out.Set("rows", to_js(env, drift->rows)), out.Set("elements", to_js(env, drift->elements)), out.Set("changed", to_js(env, drift->changed));
        out.Set("maxUlp", Napi::Number::New(env, drift->max_ulp)), out.Set("sumUlp", Napi::Number::New(env, drift->sum_ulp));
        out.Set("error", Napi::Number::New(env, drift->error)), out.Set("exact", Napi::Number::New(env, drift->exact)), out.Set("delta", Napi::Number::New(env, drift->delta));
        return out;
      });
}

}  // namespace

void bind_merging(Napi::Env env, Napi::Object& exports) {
  bind(env, exports, "mergeFile", merge_file_job);
  bind(env, exports, "measureDrift", measure_drift_job);
}

}  // namespace cambium

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

// {base?, weights, densities?, prune?, sign?, lambda?, slerp?, seed?, site?} for `inputs` tensors, the base among them.
CombineOptions combine_options(Environment& e, const Napi::Object& o, size_t inputs) {
  CombineOptions out;
  out.has_base = has(o, "base") && field<bool>(e, o, "base");
  out.weights = field<std::vector<double>>(e, o, "weights");
  out.spherical = has(o, "slerp");
  if (out.spherical) out.t = field<double>(e, o, "slerp");
  if (out.weights.size() + (out.has_base ? 1 : 0) != inputs || inputs == 0) fail("E_ARGUMENT", "combine: expected a weight for each input, got %zu for %zu", out.weights.size(), inputs);
  if (out.spherical && (out.has_base || inputs != 2)) fail("E_ARGUMENT", "slerp: expected two inputs, got %zu", inputs);
  const std::string prune = has(o, "prune") ? field<std::string>(e, o, "prune") : "none", sign = has(o, "sign") ? field<std::string>(e, o, "sign") : "none";
  out.prune = prune == "magnitude" ? CombineOptions::kMagnitude : prune == "random" ? CombineOptions::kRandom : CombineOptions::kKeep;
  out.sign = sign == "total" ? CombineOptions::kTotal : sign == "frequency" ? CombineOptions::kFrequency : CombineOptions::kSum;
  if (out.prune != CombineOptions::kKeep) out.density = field<std::vector<double>>(e, o, "densities");
  if (out.prune != CombineOptions::kKeep && out.density.size() != out.weights.size()) fail("E_ARGUMENT", "densities: expected one for each weight, got %zu", out.density.size());
  for (const double density : out.density) {
    if (!(density >= 0 && density <= 1)) fail("E_ARGUMENT", "densities: expected shares of 0 to 1, got %g", density);
  }
  if (has(o, "lambda")) out.lambda = field<double>(e, o, "lambda");
  if (has(o, "seed")) out.seed = static_cast<uint64_t>(field<int64_t>(e, o, "seed"));
  if (has(o, "site")) out.site = static_cast<uint32_t>(field<int64_t>(e, o, "site"));
  return out;
}

// {name, count, toType, inputs: [{source, from, type}], options}
uint64_t combined_segment(Environment& e, const Napi::Object& o, const MergeFile& plan, MergeSegment* out) {
  out->name = field<std::string>(e, o, "name"), out->rows = size_at(e, o, "count"), out->columns = 1;
  out->to_type = element_type(field<std::string>(e, o, "toType"));
  if (out->rows < 1 || out->rows > (int64_t{1} << 40)) fail("E_SHAPE", "%s: expected 1 to 2^40 elements, got %lld", out->name.c_str(), static_cast<long long>(out->rows));
  const auto inputs = o.Get("inputs").As<Napi::Array>();
  for (uint32_t i = 0; i < inputs.Length(); ++i) {
    const Napi::Object input = inputs.Get(i).As<Napi::Object>();
    MergeInput in;
    in.source = static_cast<size_t>(size_at(e, input, "source")), in.from = static_cast<uint64_t>(size_at(e, input, "from"));
    in.type = element_type(field<std::string>(e, input, "type"));
    if (in.source >= plan.sources.size()) fail("E_RANGE", "source: expected one of %zu files, got %zu", plan.sources.size(), in.source);
    out->inputs.push_back(in);
  }
  out->combine = combine_options(e, o.Get("options").As<Napi::Object>(), out->inputs.size());
  return static_cast<uint64_t>(out->rows) * element_size(out->to_type);
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
  if (has(o, "combine")) written = combined_segment(e, o.Get("combine").As<Napi::Object>(), plan, &out);
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

// ({inputs: Float32Array[], …options}) -> Float32Array
Napi::Value combine_job(Environment& e, const Info& info) {
  const Napi::Object o = object_at(info, 0, "combine");
  if (!o.Get("inputs").IsArray()) fail("E_ARGUMENT", "combine: expected a list of inputs, got something else");
  const auto list = o.Get("inputs").As<Napi::Array>();
  std::vector<CombineInput> inputs;
  std::vector<Napi::Value> pin;
  size_t bytes = 0;
  for (uint32_t i = 0; i < list.Length(); ++i) {
    const Bytes values = From<Bytes>::get(e, list.Get(i));
    if (i > 0 && values.size != bytes) fail("E_SHAPE", "combine: expected inputs of one size, got %zu and %zu bytes", bytes, values.size);
    bytes = values.size;
    inputs.push_back({nullptr, 0, ElementType::kF32, reinterpret_cast<const float*>(values.data)});
    pin.push_back(list.Get(i));
  }
  const CombineOptions options = combine_options(e, o, inputs.size());
  auto run = std::make_shared<CombineRun>(std::move(inputs), static_cast<int64_t>(bytes / 4), options);
  auto out = std::make_shared<std::vector<float>>(bytes / 4);
  return Job::start(
      info.Env(),
      [=] {
        IoStatus status = run->prepare();
        std::vector<double> values;
        for (int64_t i = 0; i < run->pieces() && status.ok(); ++i) {
          status = run->run(i, &values);
          for (size_t j = 0; j < values.size(); ++j) (*out)[static_cast<size_t>(i * CombineRun::kPiece) + j] = static_cast<float>(values[j]);
        }
        return status;
      },
      [=](Napi::Env env) -> Napi::Value {
        Napi::Float32Array array = Napi::Float32Array::New(env, out->size());
        std::memcpy(array.Data(), out->data(), out->size() * 4);
        return array;
      },
      pin);
}

// (plan, segment, stride) -> FoldDrift
Napi::Value measure_drift_job(Environment& e, const Info& info) {
  const auto plan = merge_plan(e, info);
  const int64_t index = From<int64_t>::get(e, info[1]), stride = From<int64_t>::get(e, info[2]);
  if (index < 0 || static_cast<size_t>(index) >= plan->segments.size() || plan->segments[static_cast<size_t>(index)].rows == 0 || !plan->segments[static_cast<size_t>(index)].inputs.empty() || stride < 1) fail("E_RANGE", "measureDrift: expected a folded segment and a stride of at least 1, got others");
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
  bind(env, exports, "combine", combine_job);
  bind(env, exports, "measureDrift", measure_drift_job);
}

}  // namespace cambium

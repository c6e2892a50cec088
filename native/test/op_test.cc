#include "op_test.h"

#include <cstdio>
#include <cstring>
#include <memory>

#include "cpu/backend.h"
#include "cpu/parallel.h"

namespace cambium_test {
namespace {

constexpr size_t kGuard = 64;
constexpr unsigned char kGuardByte = 0xa5;
int failed = 0;

size_t size_of(int32_t type) { return type == CB_F32 || type == CB_I32 ? 4 : 2; }

uint16_t to_bf16(double value) {
  const float x = float(value);
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  return uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

double from_bf16(uint16_t half) {
  const uint32_t bits = uint32_t(half) << 16;
  float x;
  std::memcpy(&x, &bits, 4);
  return x;
}

// A stream's scratch memory: freed when the kernel has returned.
struct Context {
  CbContext c;
  std::vector<std::unique_ptr<char[]>> blocks;
  char message[256] = "";
  Context() {
    c.stream = this;
    c.message = message;
    c.scratch = [](CbContext* context, size_t bytes) -> void* {
      auto& owner = *static_cast<Context*>(context->stream);
      owner.blocks.push_back(std::make_unique<char[]>(bytes + 64));
      std::memset(owner.blocks.back().get(), 0xff, bytes + 64);  // NaN: what a kernel does not write must not be read
      const auto address = reinterpret_cast<uintptr_t>(owner.blocks.back().get());
      return reinterpret_cast<void*>((address + 63) / 64 * 64);
    };
  }
};

void fail(const std::string& name, const std::string& what) {
  ++failed;
  std::printf("FAIL %s: %s\n", name.c_str(), what.c_str());
}

}  // namespace

Tensor::Tensor(int64_t count, int32_t type)
    : count_(count), type_(type), bytes_(size_t(count) * size_of(type) + kGuard) {
  std::memset(bytes_.data(), 0xff, bytes_.size());  // NaN: a result that is not written does not pass
  std::memset(bytes_.data() + bytes_.size() - kGuard, kGuardByte, kGuard);
}

Tensor Tensor::random(int64_t count, int32_t type, double spread) {
  Tensor t(count, type);
  std::normal_distribution<double> normal(0.0, spread);
  for (int64_t i = 0; i < count; ++i) t.set(i, normal(generator()));
  return t;
}

double Tensor::at(int64_t i) const {
  const unsigned char* p = bytes_.data() + size_t(i) * size_of(type_);
  if (type_ == CB_F32) {
    float x;
    std::memcpy(&x, p, 4);
    return x;
  }
  uint16_t half;
  std::memcpy(&half, p, 2);
  return from_bf16(half);
}

void Tensor::set(int64_t i, double value) {
  unsigned char* p = bytes_.data() + size_t(i) * size_of(type_);
  if (type_ == CB_F32) {
    const float x = float(value);
    std::memcpy(p, &x, 4);
  } else {
    const uint16_t half = to_bf16(value);
    std::memcpy(p, &half, 2);
  }
}

bool Tensor::guard_intact() const {
  for (size_t i = bytes_.size() - kGuard; i < bytes_.size(); ++i) {
    if (bytes_[i] != kGuardByte) return false;
  }
  return true;
}

double relative_error(const Tensor& result, const Reference& reference) {
  double difference = 0, norm = 0;
  for (int64_t i = 0; i < result.count(); ++i) {
    const double d = result.at(i) - reference[size_t(i)];
    difference += d * d;
    norm += reference[size_t(i)] * reference[size_t(i)];
  }
  if (norm == 0) return difference == 0 ? 0 : HUGE_VAL;
  return std::sqrt(difference / norm);
}

double round_to(int32_t type, double value) {
  return type == CB_BF16 ? from_bf16(to_bf16(value)) : double(float(value));
}

Reference values(const Tensor& t) {
  Reference r(size_t(t.count()));
  for (int64_t i = 0; i < t.count(); ++i) r[size_t(i)] = t.at(i);
  return r;
}

void restart_random() { generator().seed(20261122); }

std::mt19937& generator() {
  static std::mt19937 g;
  return g;
}

const char* type_name(int32_t type) { return type == CB_F32 ? "f32" : "bf16"; }

void check(const std::string& name, const std::vector<Expected>& expected,
           const std::function<int(CbContext*)>& kernel) {
  std::vector<Tensor> before, single;
  for (const auto& e : expected) before.push_back(*e.result);
  for (const int threads : {1, 3}) {
    for (size_t i = 0; i < expected.size(); ++i) {
      std::memcpy(expected[i].result->data(), before[i].data(), before[i].bytes().size());  // same address as before
    }
    cambium::set_thread_count(threads);
    Context context;
    const int status = kernel(&context.c);
    if (status != CB_OK) fail(name, "status " + std::to_string(status) + " " + context.message);
    for (size_t i = 0; i < expected.size(); ++i) {
      if (threads == 1)
        single.push_back(*expected[i].result);
      else if (single[i].bytes() != expected[i].result->bytes())
        fail(name, expected[i].name + " changes with threads");
    }
  }
  for (const auto& e : expected) {
    const double error = relative_error(*e.result, e.reference);
    if (!(error <= e.tolerance)) {
      char text[128];
      std::snprintf(text, sizeof text, "%s is off by %.3g, allowed %.3g", e.name.c_str(), error, e.tolerance);
      fail(name, text);
    }
    if (!e.result->guard_intact()) fail(name, e.name + " was written past its end");
  }
}

void check_error(const std::string& name, int status, const std::string& text,
                 const std::function<int(CbContext*)>& kernel) {
  Context context;
  const int got = kernel(&context.c);
  if (got != status) fail(name, "expected status " + std::to_string(status) + ", got " + std::to_string(got));
  if (std::string(context.message).find(text) == std::string::npos)
    fail(name, std::string("message is ") + context.message);
}

const Backend& backend() { return *cambium::cpu_backend(); }
int failures() { return failed; }

}  // namespace cambium_test

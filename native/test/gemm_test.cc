// Products at every level that this machine has (AMX over emulated tiles where it has none), or at the one that CAMBIUM_CPU
// names, against a double reference: odd sizes, both directions of both operands, both types, every option of the epilogue,
// packed and unpacked B, and the same bits with 1, 2 and 3 threads. An argument: how many random products (400). Prints what
// failed and returns 1; prints one line and returns 0 when all is well.
#include "cpu/gemm/gemm.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "cpu/parallel.h"
#include "tile_traps.h"

using namespace cambium;

namespace {

float widen(uint16_t h) {
  const uint32_t bits = uint32_t(h) << 16;
  float x;
  std::memcpy(&x, &bits, 4);
  return x;
}
uint16_t narrow(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  return uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

std::mt19937 random_bits(7);
float draw() { return std::normal_distribution<float>()(random_bits); }

// An array of either type, with a margin that must stay as it was.
struct Array {
  static constexpr size_t kMargin = 40;
  static constexpr uint8_t kMark = 0xa7;
  Element type;
  size_t count;
  std::vector<uint8_t> bytes;

  Array(Element t, size_t n, bool filled = true) : type(t), count(n), bytes(n * element_size(t) + kMargin, kMark) {
    for (size_t i = 0; filled && i < n; ++i) set(i, draw());
  }
  void set(size_t i, float x) {
    const uint16_t h = narrow(x);
    if (type == Element::f32) std::memcpy(&bytes[4 * i], &x, 4);
    else std::memcpy(&bytes[2 * i], &h, 2);
  }
  float get(size_t i) const {
    float x;
    uint16_t h;
    if (type == Element::f32) std::memcpy(&x, &bytes[4 * i], 4);
    else std::memcpy(&h, &bytes[2 * i], 2), x = widen(h);
    return x;
  }
  bool margin_kept() const {
    for (size_t i = bytes.size() - kMargin; i < bytes.size(); ++i)
      if (bytes[i] != kMark) return false;
    return true;
  }
};

enum Option { kScale = 1, kBias = 2, kPre = 4, kDerivative = 8, kResidual = 16, kSkip = 32, kAccumulate = 64 };

struct Case {
  int64_t m, n, k;
  bool a_turned, b_turned, packed;  // turned: the unit stride runs along rows
  Element a_type, b_type, c_type, other_type;
  int options, activation;
};

std::string describe(const Case& c) {
  char text[200];
  std::snprintf(text, sizeof text, "m %lld n %lld k %lld turned %d%d packed %d types %d%d%d%d options %d activation %d",
                (long long)c.m, (long long)c.n, (long long)c.k, c.a_turned, c.b_turned, c.packed, int(c.a_type),
                int(c.b_type), int(c.c_type), int(c.other_type), c.options, c.activation);
  return text;
}

double activate(int kind, double x) {
  if (kind == 1) return x / (1 + std::exp(-1.702 * x));
  if (kind == 2) return 0.5 * x * std::erfc(-x / std::sqrt(2.0));
  return x;
}
double activation_derivative(int kind, double x) {
  if (kind == 1) {
    const double s = 1 / (1 + std::exp(-1.702 * x));
    return s + 1.702 * x * s * (1 - s);
  }
  return 0.5 * std::erfc(-x / std::sqrt(2.0)) + x * std::exp(-x * x / 2) / std::sqrt(2 * M_PI);
}

const GemmTable& table_of(Level level) {
#if defined(__x86_64__)
  if (level >= Level::avx512) return avx512::gemm_table();
  if (level == Level::avx2) return avx2::gemm_table();
#endif
  (void)level;
  return portable::gemm_table();
}

std::vector<Level> levels_to_check() {
  std::vector<Level> all;
  const char* const forced = std::getenv("CAMBIUM_CPU");
  if (forced && *forced) return {cpu_level()};
  for (Level level : {Level::portable, Level::avx2, Level::avx512, Level::avx512_bf16})
    if (level_available(level)) all.push_back(level);
  // All that the level of tiles needs besides is avx512_bf16.
  if (level_available(Level::avx512_bf16)) all.push_back(Level::amx);
  return all;
}

struct Operands {
  Array a, b, residual, skip, derivative, before;
  std::vector<float> bias;
  float scale = 0.625f;

  explicit Operands(const Case& c)
      : a(c.a_type, size_t(c.m * c.k)), b(c.b_type, size_t(c.k * c.n)), residual(c.other_type, size_t(c.m * c.n)),
        skip(c.other_type, size_t(c.m * c.n)), derivative(c.other_type, size_t(c.m * c.n)),
        before(c.c_type, size_t(c.m * c.n)) {
    for (int64_t j = 0; j < c.n; ++j) bias.push_back(draw());
  }
};

struct Reference {
  std::vector<double> pre, c, slack;  // slack: how much an f32 sum may differ
};

float operand(const Array& x, size_t i, Element product) {
  return product == Element::bf16 ? widen(narrow(x.get(i))) : x.get(i);
}

Reference reference(const Case& c, const Operands& o, Element product) {
  Reference r;
  for (int64_t i = 0; i < c.m; ++i)
    for (int64_t j = 0; j < c.n; ++j) {
      double sum = 0, size = 0;
      for (int64_t k = 0; k < c.k; ++k) {
        const double x = operand(o.a, size_t(c.a_turned ? k * c.m + i : i * c.k + k), product);
        const double y = operand(o.b, size_t(c.b_turned ? j * c.k + k : k * c.n + j), product);
        sum += x * y;
        size += std::fabs(x * y);
      }
      const size_t at = size_t(i * c.n + j);
      double t = (c.options & kScale ? double(o.scale) : 1.0) * sum;
      if (c.options & kBias) t += o.bias[size_t(j)];
      r.pre.push_back(t);
      if (c.options & kDerivative) t *= activation_derivative(c.activation, o.derivative.get(at));
      else t = activate(c.activation, t);
      if (c.options & kResidual) t += o.residual.get(at);
      if (c.options & kSkip) t += o.skip.get(at);
      if (c.options & kAccumulate) t += o.before.get(at);
      r.c.push_back(t);
      r.slack.push_back(6e-7 * size + 2e-6);
    }
  return r;
}

int failures = 0;

void fail(const char* level, Element product, const Case& c, const char* what) {
  if (++failures <= 20)
    std::printf("%s product %s %s: %s\n", level, product == Element::f32 ? "f32" : "bf16", describe(c).c_str(), what);
}

bool close(const Array& got, size_t i, double expected, double slack) {
  const double rounding = got.type == Element::bf16 ? std::fabs(expected) / 250 : 3e-7 * std::fabs(expected);
  return std::fabs(got.get(i) - expected) <= slack + rounding;  // false for NaN
}

struct Result {
  Array c, pre;
  bool ok;
};

Result multiply(Level level, Element product, const Case& c, const Operands& o) {
  const GemmTable& table = table_of(level);
  Result r{o.before, Array(c.other_type, size_t(c.m * c.n), false), true};
  const MatrixView a{o.a.bytes.data(), c.a_type, c.a_turned ? 1 : c.k, c.a_turned ? c.m : 1};
  const MatrixView b{o.b.bytes.data(), c.b_type, c.b_turned ? 1 : c.n, c.b_turned ? c.k : 1};
  std::vector<uint8_t> packed(table.packed_b_bytes(c.k, c.n, product));
  if (c.packed && table.pack_matrix_b(b, c.k, c.n, product, packed.data()) != 0) r.ok = false;
  const void* const packed_b = c.packed ? packed.data() : nullptr;
  GemmCall call{a, b, packed_b, c.m, c.n, c.k, r.c.bytes.data(), c.c_type, product, Epilogue()};
  Epilogue& e = call.epilogue;
  e.activation = c.activation;
  if (c.options & kScale) e.scale = &o.scale;
  if (c.options & kBias) e.bias = o.bias.data();
  if (c.options & kPre) e.pre = r.pre.bytes.data(), e.pre_type = c.other_type;
  if (c.options & kDerivative) e.derivative_of = o.derivative.bytes.data(), e.derivative_type = c.other_type;
  if (c.options & kResidual) e.residual = o.residual.bytes.data(), e.residual_type = c.other_type;
  if (c.options & kSkip) e.skip = o.skip.bytes.data(), e.skip_type = c.other_type;
  e.accumulate = (c.options & kAccumulate) != 0;
  if (table.gemm(call) != 0) r.ok = false;
  return r;
}

void check(const Case& c) {
  static const std::vector<Level> levels = levels_to_check();
  const Operands o(c);
  for (Element product : {Element::f32, Element::bf16}) {
    const Reference expected = reference(c, o, product);
    for (Level level : levels) {
      set_cpu_level(level);
      const char* const name = level_name(level);
      set_thread_count(1);
      const Result one = multiply(level, product, c, o);
      if (!one.ok) fail(name, product, c, "status");
      if (!one.c.margin_kept() || !one.pre.margin_kept()) fail(name, product, c, "wrote past the end");
      for (size_t i = 0; i < expected.c.size(); ++i) {
        if (!close(one.c, i, expected.c[i], expected.slack[i])) {
          fail(name, product, c, "result");
          break;
        }
        if ((c.options & kPre) && !close(one.pre, i, expected.pre[i], expected.slack[i])) {
          fail(name, product, c, "pre-activation");
          break;
        }
      }
      for (int threads : {2, 3}) {
        set_thread_count(threads);
        const Result more = multiply(level, product, c, o);
        if (more.c.bytes != one.c.bytes || more.pre.bytes != one.pre.bytes)
          fail(name, product, c, "bits depend on threads");
      }
    }
  }
}

int64_t pick(std::initializer_list<int64_t> from) { return *(from.begin() + random_bits() % from.size()); }
Element pick_type() { return Element(random_bits() % 2); }

Case random_case() {
  Case c{};
  c.m = pick({1, 2, 5, 13, 14, 15, 28, 31, 32, 33, 64, 97, 150});
  c.n = pick({1, 3, 7, 8, 15, 16, 17, 31, 32, 33, 48, 64, 95, 130});
  c.k = pick({1, 2, 3, 15, 16, 17, 31, 32, 33, 63, 64, 77, 255, 256, 257, 300});
  c.a_turned = random_bits() % 2;
  c.b_turned = random_bits() % 2;
  c.packed = random_bits() % 2;
  c.a_type = pick_type(), c.b_type = pick_type(), c.c_type = pick_type(), c.other_type = pick_type();
  c.options = int(random_bits() % 128);
  c.activation = int(random_bits() % 3);
  if (c.activation == 0) c.options &= ~kDerivative;
  return c;
}

void check_nothing_to_sum() {
  Case c{3, 5, 0, false, false, false, Element::f32, Element::f32, Element::f32, Element::f32, kBias | kResidual, 0};
  check(c);
  for (int64_t empty = 0; empty < 2; ++empty) {
    Case none = c;
    (empty ? none.m : none.n) = 0;
    check(none);
  }
}

void check_parallel() {
  for (int threads : {1, 2, 3, 7, 2}) {
    set_thread_count(threads);
    for (int64_t tasks : {0, 1, 2, 3, 50, 1000}) {
      std::vector<int> runs(size_t(tasks), 0);
      for (int repeat = 0; repeat < 200; ++repeat)
        parallel_for(tasks, [&](int64_t i) { parallel_for(1 + i % 2, [&](int64_t) { ++runs[size_t(i)]; }); });
      for (size_t i = 0; i < runs.size(); ++i)
        if (runs[i] != 200 * int(1 + i % 2)) ++failures, std::printf("parallel: task %zu ran %d times\n", i, runs[i]);
    }
  }
}

}  // namespace

int main(int count, char** arguments) {
#if defined(__x86_64__)
  if (!level_available(Level::amx)) cambium_test::emulate_tiles();
#endif
  const int products = count > 1 ? std::atoi(arguments[1]) : 400;
  check_parallel();
  check_nothing_to_sum();
  for (int i = 0; i < products; ++i) check(random_case());
  const Element f = Element::f32, h = Element::bf16;
  check({70, 150, 4100, false, true, false, f, f, f, f, kBias | kResidual, 1});   // k in two pieces
  check({70, 70, 8300, true, false, true, h, h, f, f, kAccumulate, 0});            // k in three pieces, packed
  check({500, 300, 96, false, true, true, f, h, h, h, kBias | kPre, 1});           // several blocks of rows
  check({8, 700, 500, true, false, false, f, f, f, f, kAccumulate, 0});            // a low-rank factor's gradient
  check({700, 4, 300, false, false, false, f, f, f, f, 0, 0});
  if (failures) return std::printf("%d failures\n", failures), 1;
  std::printf("gemm: every level agrees with the reference\n");
  return 0;
}

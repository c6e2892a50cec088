// What the native checks of op kernels share: host tensors with a guard behind them, a reference in double, and the
// rule that one and three threads must give the same bits.
#pragma once
#include <cmath>
#include <cstdint>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "ops/backend.h"

namespace cambium_test {

// A tensor as a kernel sees it (bytes of `type`, followed by a guard) and as the reference sees it (the same values).
class Tensor {
 public:
  Tensor(int64_t count, int32_t type = CB_F32);
  static Tensor random(int64_t count, int32_t type = CB_F32, double spread = 1.0);

  void* data() { return bytes_.data(); }
  float* f32() { return static_cast<float*>(data()); }
  int64_t count() const { return count_; }
  int32_t type() const { return type_; }
  double at(int64_t i) const;         // the value in memory
  void set(int64_t i, double value);  // rounds to the type
  bool guard_intact() const;
  const std::vector<unsigned char>& bytes() const { return bytes_; }

 private:
  int64_t count_;
  int32_t type_;
  std::vector<unsigned char> bytes_;
};

using Reference = std::vector<double>;

inline Reference zeros(int64_t n) { return Reference(static_cast<size_t>(n)); }
double relative_error(const Tensor& result, const Reference& reference);
double round_to(int32_t type, double value);
Reference values(const Tensor& t);
std::mt19937& generator();
const char* type_name(int32_t type);

// A result of a kernel with what it should be. `tolerance` is on ‖Δ‖/‖reference‖; a zero reference must be exactly
// zero.
struct Expected {
  std::string name;
  Tensor* result;
  Reference reference;
  double tolerance;
};

// Runs `kernel` with one and with three threads from the same starting values of the results, and compares.
void check(const std::string& name, const std::vector<Expected>& expected,
           const std::function<int(CbContext*)>& kernel);
// Runs `kernel` and expects this status and a message that contains `text`.
void check_error(const std::string& name, int status, const std::string& text,
                 const std::function<int(CbContext*)>& kernel);

// Tolerances of a result: sums in f32, or one rounding to bf16.
inline double tolerance_of(int32_t type, double f32 = 3e-6, double bf16 = 4e-3) { return type == CB_F32 ? f32 : bf16; }

const Backend& backend();  // of the level in force
void restart_random();     // every level is checked with the same numbers
int failures();

}  // namespace cambium_test

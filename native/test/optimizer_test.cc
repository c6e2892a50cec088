// squared_norm, adamw and sgd against one update in double: decay, clipping, averages, rates of groups, an anchor.
#include <algorithm>

#include "op_test.h"
#include "ops_test.h"

namespace cambium_test {
namespace {

constexpr double kRate = 1e-2, kAverage = 0.75, kMaxNorm = 1, kPull = 0.05;
constexpr int kParts = 6;
const char* const kNames[kParts] = {"value", "gradient", "m", "v", "average", "anchor"};

// Parameters of several sizes. The second has no average, the third an anchor, the fourth twice the rate; the odd ones decay.
struct Parameters {
  std::vector<int64_t> counts{5, 40000, 129, 77, 0};
  std::vector<Tensor> tensors;
  std::vector<CbParameter> list;
  double norm2 = 0, clip;

  Parameters() {
    for (const int64_t n : counts) {
      for (int part = 0; part < kParts; ++part) {
        tensors.push_back(Tensor::random(n));
        for (int64_t i = 0; part == 3 && i < n; ++i) tensors.back().set(i, std::fabs(tensors.back().at(i)));
      }
    }
    for (size_t p = 0; p < counts.size(); ++p) {
      const auto f32 = [&](int part) { return at(p, part).f32(); };
      list.push_back({counts[p], f32(0), f32(1), f32(2), f32(3), p == 1 ? nullptr : f32(4), float(decay(p)), float(rate(p)),
                      p == 2 ? f32(5) : nullptr, float(kPull)});
      for (int64_t i = 0; i < counts[p]; ++i) norm2 += std::pow(gradient(p, i), 2);
    }
    clip = std::min(1.0, kMaxNorm / (std::sqrt(norm2) + 1e-6));
  }
  Tensor& at(size_t p, int part) { return tensors[kParts * p + size_t(part)]; }
  double decay(size_t p) const { return p % 2 ? 0.1 : 0; }
  double rate(size_t p) const { return p == 3 ? 2 : 1; }
  double gradient(size_t p, int64_t i) {
    return at(p, 1).at(i) + (p == 2 ? 2 * double(float(kPull)) * (at(p, 0).at(i) - at(p, 5).at(i)) : 0);
  }

  // step(p, gradient, want): what becomes of an element's [value, gradient, m, v] by the clipped gradient.
  template <class F>
  std::vector<Expected> expected(std::initializer_list<int> parts, const F& step) {
    std::vector<Expected> all;
    for (size_t p = 0; p < counts.size(); ++p) {
      Reference want[5];
      for (int part = 0; part < 5; ++part) want[part] = values(at(p, part));
      for (int64_t i = 0; i < counts[p]; ++i) {
        step(p, clip * gradient(p, i), [&](int part) -> double& { return want[part][size_t(i)]; });
        if (p != 1) want[4][size_t(i)] = kAverage * want[4][size_t(i)] + (1 - kAverage) * want[0][size_t(i)];
      }
      for (const int part : parts) all.push_back({kNames[part], &at(p, part), want[part], 2e-5});  // 1 - β is rounded to f32
    }
    return all;
  }
};

void adamw() {
  const double t = 3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, c1 = 1 - std::pow(beta1, t), c2 = 1 - std::pow(beta2, t);
  Parameters all;
  const auto expected = all.expected({0, 2, 3, 4}, [&](size_t p, double g, const auto& want) {
    want(2) = beta1 * want(2) + (1 - beta1) * g;
    want(3) = beta2 * want(3) + (1 - beta2) * g * g;
    const double rate = kRate * all.rate(p);
    want(0) = want(0) * (1 - rate * all.decay(p)) - rate / c1 * want(2) / (std::sqrt(want(3) / c2) + eps);
  });
  Tensor norm(1), schedule(4);
  schedule.set(0, kRate), schedule.set(1, c1), schedule.set(2, c2), schedule.set(3, kAverage);
  const auto count = int64_t(all.list.size());
  squared_norm_args s{count, all.list.data(), norm.f32()};
  check("squared_norm", {{"y", &norm, {all.norm2}, 1e-6}}, [&](CbContext* c) { return backend().squared_norm(c, &s); });
  adamw_args a{count, all.list.data(), schedule.f32(), norm.f32(), beta1, beta2, float(eps), float(kMaxNorm)};
  check("adamw", expected, [&](CbContext* c) { return backend().adamw(c, &a); });
}

void sgd(double momentum) {
  Parameters all;
  if (momentum == 0) {
    for (CbParameter& p : all.list) p.m = nullptr;
  }
  const auto step = [&](size_t p, double g, const auto& want) {
    g += all.decay(p) * want(0);
    if (momentum != 0) want(2) = g = momentum * want(2) + g;
    want(0) -= kRate * all.rate(p) * g;
  };
  const auto expected = momentum == 0 ? all.expected({0, 4}, step) : all.expected({0, 2, 4}, step);
  Tensor norm(1), schedule(2);
  norm.set(0, all.norm2), schedule.set(0, kRate), schedule.set(1, kAverage);
  sgd_args a{int64_t(all.list.size()), all.list.data(), schedule.f32(), norm.f32(), float(momentum), float(kMaxNorm)};
  check("sgd", expected, [&](CbContext* c) { return backend().sgd(c, &a); });
}

}  // namespace

void optimizer_tests() {
  adamw();
  sgd(0);
  sgd(0.9);
}

}  // namespace cambium_test

#include "linalg/combine.h"

#include <cmath>
#include <cstring>

#include "core/random.h"
#include "linalg/vectors.h"

namespace cambium {

uint32_t magnitude_bits(double x) {
  const float f = static_cast<float>(x);
  uint32_t bits;
  std::memcpy(&bits, &f, 4);
  return bits & 0x7fffffff;
}

void Selection::count_upper(const double* d, int64_t n, std::vector<int64_t>* bins) const {
  for (int64_t i = 0; i < n; ++i) ++(*bins)[magnitude_bits(d[i]) >> 16];
}

void Selection::count_lower(const double* d, int64_t n, std::vector<int64_t>* bins) const {
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t bits = magnitude_bits(d[i]);
    if (bits >> 16 == bin_) ++(*bins)[bits & 0xffff];
  }
}

void Selection::add_upper(const std::vector<int64_t>& bins) {
  for (size_t i = 0; i < upper_.size(); ++i) upper_[i] += bins[i];
}

void Selection::choose_bin() {
  for (bin_ = kUpper - 1; bin_ > 0 && above_ + upper_[bin_] < keep_; --bin_) above_ += upper_[bin_];
}

void Selection::add_lower(const std::vector<int64_t>& bins) {
  for (size_t i = 0; i < lower_.size(); ++i) lower_[i] += bins[i];
}

Threshold Selection::threshold() const {
  if (keep_ == 0) return {0xffffffff, 0};
  int64_t above = above_;
  uint32_t low = kLower - 1;
  for (; low > 0 && above + lower_[low] < keep_; --low) above += lower_[low];
  return {bin_ << 16 | low, keep_ - above};
}

void keep_largest(double* d, int64_t n, const Threshold& threshold, int64_t* ties) {
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t bits = magnitude_bits(d[i]);
    if (bits < threshold.bits || (bits == threshold.bits && (*ties)++ >= threshold.ties)) d[i] = 0;
  }
}

void keep_random(double* d, int64_t n, int64_t first, double density, const CombineOptions& options, uint32_t input) {
  for (int64_t i = 0; i < n;) {
    const uint64_t index = static_cast<uint64_t>(first + i);
    const Philox draw(options.seed, input, options.site, index / 4);
    for (uint64_t lane = index % 4; lane < 4 && i < n; ++lane, ++i) {
      const bool keep = static_cast<double>(draw.out[lane] >> 8) * 0x1p-24 < density;
      d[i] = keep ? d[i] / density : 0;
    }
  }
}

namespace {

double sign_of(double x) { return x > 0 ? 1 : x < 0 ? -1 : 0; }

double elected(const double* const* d, size_t inputs, int64_t i, const CombineOptions& options) {
  double votes = 0, sum = 0;
  for (size_t k = 0; k < inputs; ++k) votes += options.sign == CombineOptions::kTotal ? d[k][i] : sign_of(d[k][i]);
  const double majority = votes >= 0 ? 1 : -1;
  int count = 0;
  for (size_t k = 0; k < inputs; ++k) {
    if (sign_of(d[k][i]) == majority) sum += options.weights[k] * d[k][i], ++count;
  }
  return count > 1 ? sum / count : sum;
}

}  // namespace

void combine(const double* const* d, size_t inputs, const double* base, int64_t n, const CombineOptions& options, double* out) {
  std::vector<double> y(static_cast<size_t>(n));
  if (options.sign == CombineOptions::kSum) {
    for (size_t k = 0; k < inputs; ++k) add_scaled(y.data(), d[k], n, options.weights[k]);
  } else {
    for (int64_t i = 0; i < n; ++i) y[static_cast<size_t>(i)] = elected(d, inputs, i, options);
  }
  if (base) {
    if (out != base) std::memcpy(out, base, static_cast<size_t>(n) * sizeof(double));
  } else {
    std::memset(out, 0, static_cast<size_t>(n) * sizeof(double));
  }
  add_scaled(out, y.data(), n, options.lambda);
}

void spherical_weights(double ab, double aa, double bb, double t, std::vector<double>* weights) {
  const double cosine = aa > 0 && bb > 0 ? ab / std::sqrt(aa) / std::sqrt(bb) : 1;
  if (std::fabs(cosine) > 0.9995) {
    *weights = {1 - t, t};
    return;
  }
  const double angle = std::acos(cosine), sine = std::sin(angle);
  *weights = {std::sin((1 - t) * angle) / sine, std::sin(t * angle) / sine};
}

}  // namespace cambium

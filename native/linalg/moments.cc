#include "linalg/moments.h"

#include "linalg/vectors.h"

namespace cambium {
namespace {

constexpr int64_t kBlock = 32;  // rows whose outer products are added while a row of the triangle lies in the cache
constexpr int64_t kGroup = 16;  // rows of the triangle that are one task

}  // namespace

void Moments::add(const float* x, int64_t rows) {
  if (rows > 0 && values_[0] == 0) {
    for (int64_t j = 0; j < d_; ++j) origin()[j] = static_cast<double>(x[j]);
  }
  std::vector<double> z(static_cast<size_t>(kBlock * d_));
  for (int64_t first = 0; first < rows; first += kBlock) {
    const int64_t count = first + kBlock < rows ? kBlock : rows - first;
    for (int64_t k = 0; k < count; ++k) {
      double* zk = z.data() + k * d_;
      for (int64_t j = 0; j < d_; ++j) zk[j] = static_cast<double>(x[(first + k) * d_ + j]) - origin()[j];
      const double square = dot(zk, zk, d_);
      values_[1] += square * square;
      add_scaled(sum(), zk, d_, 1);
      add_scaled(weighted(), zk, d_, square);
    }
    spread((d_ + kGroup - 1) / kGroup, count * d_ * d_, [&](int64_t group) {
      const int64_t last = group * kGroup + kGroup < d_ ? group * kGroup + kGroup : d_;
      for (int64_t i = group * kGroup; i < last; ++i) {
        for (int64_t k = 0; k < count; ++k) add_scaled(second() + packed_size(i), z.data() + k * d_, i + 1, z[static_cast<size_t>(k * d_ + i)]);
      }
    });
    values_[0] += static_cast<double>(count);
  }
}

Moments::Covariance Moments::covariance() const {
  Covariance out;
  const double n = out.count = values_[0];
  std::vector<double> offset(sum(), sum() + d_);  // of the mean from the origin
  scale(offset.data(), d_, 1 / n);
  out.mean.assign(origin(), origin() + d_);
  add_scaled(out.mean.data(), offset.data(), d_, 1);
  out.packed.assign(second(), second() + packed_size(d_));
  for (int64_t i = 0; i < d_; ++i) add_scaled(out.packed.data() + packed_size(i), offset.data(), i + 1, -n * offset[static_cast<size_t>(i)]);
  scale(out.packed.data(), packed_size(d_), n > 1 ? 1 / (n - 1) : 1);
  out.ledoit_wolf = ledoit_wolf(offset, out.packed);
  return out;
}

// Ledoit and Wolf, A well-conditioned estimator for large-dimensional covariance matrices (2004), lemma 3.3, in the form of
// scikit-learn's ledoit_wolf_shrinkage: of E, the covariance divided by N,
//   δ² = (‖E‖² - tr(E)²/D) / D,   β² = (1/N Σ‖x - mean‖⁴ - ‖E‖²) / (D N),   intensity min(β², δ²) / δ².
// With z = x - c, o = mean - c: ‖x - mean‖² = ‖z‖² - 2 z·o + ‖o‖², whose square sums to the moments at hand.
double Moments::ledoit_wolf(const std::vector<double>& offset, const std::vector<double>& unbiased) const {
  const double n = values_[0], d = static_cast<double>(d_), biased = n > 1 ? (n - 1) / n : 1;
  if (d_ == 1) return 0;
  const double* o = offset.data();
  double norm = 0, trace = 0, trace_second = 0, quadratic = 0;  // ‖E‖², tr E, tr Σzzᵀ, oᵀ Σzzᵀ o
  for (int64_t i = 0; i < d_; ++i) {
    const double *e = unbiased.data() + packed_size(i), *s = second() + packed_size(i);
    norm += 2 * dot(e, e, i) + e[i] * e[i];
    quadratic += o[i] * (2 * dot(s, o, i) + s[i] * o[i]);
    trace += e[i], trace_second += s[i];
  }
  norm *= biased * biased, trace *= biased;
  const double square = dot(o, o, d_);
  const double fourth = values_[1] + 4 * quadratic + n * square * square - 4 * dot(weighted(), o, d_) + 2 * square * trace_second - 4 * square * dot(sum(), o, d_);
  const double delta = (norm - trace * trace / d) / d, beta = (fourth / n - norm) / (d * n);
  if (!(beta > 0) || !(delta > 0)) return 0;
  return beta < delta ? beta / delta : 1;
}

}  // namespace cambium

#include "linalg/qr.h"

#include <cmath>
#include <utility>

#include "linalg/vectors.h"

namespace cambium {
namespace {

constexpr int64_t kPanel = 32;  // reflectors that pass over a column while it lies in the cache
constexpr int64_t kGroup = 8;   // vectors that one task carries through all panels

}  // namespace

Qr::Qr(std::vector<double> columns, int64_t m, int64_t n) : columns_(std::move(columns)), m_(m), n_(n), k_(m < n ? m : n) {
  tau_.resize(static_cast<size_t>(k_)), diagonal_.resize(static_cast<size_t>(k_));
  for (int64_t from = 0; from < k_; from += kPanel) {
    const int64_t to = from + kPanel < k_ ? from + kPanel : k_;
    factor_panel(from, to);
    spread(n_ - to, 4 * (n_ - to) * (to - from) * (m_ - from), [&](int64_t i) {
      for (int64_t j = from; j < to; ++j) reflect(columns_.data() + (to + i) * m_, j);
    });
  }
}

// dlarfg for each column of the panel, then its reflection of the panel's later columns.
void Qr::factor_panel(int64_t from, int64_t to) {
  for (int64_t j = from; j < to; ++j) {
    double* v = columns_.data() + j * m_ + j;
    const int64_t rest = m_ - j - 1;
    const double alpha = v[0], tail = std::sqrt(dot(v + 1, v + 1, rest));
    double beta = alpha;
    if (tail != 0) {
      beta = alpha > 0 ? -std::hypot(alpha, tail) : std::hypot(alpha, tail);
      tau_[static_cast<size_t>(j)] = (beta - alpha) / beta;
      scale(v + 1, rest, 1 / (alpha - beta));
    }
    diagonal_[static_cast<size_t>(j)] = beta;
    v[0] = 1;
    for (int64_t c = j + 1; c < to; ++c) reflect(columns_.data() + c * m_, j);
  }
}

void Qr::reflect(double* x, int64_t j) const {
  const double tau = tau_[static_cast<size_t>(j)];
  if (tau == 0) return;
  const double* v = columns_.data() + j * m_ + j;
  add_scaled(x + j, v, m_ - j, -tau * dot(v, x + j, m_ - j));
}

double Qr::r(int64_t row, int64_t column) const {
  if (row > column) return 0;
  return row == column ? diagonal_[static_cast<size_t>(row)] : columns_[static_cast<size_t>(column * m_ + row)];
}

void Qr::apply(double* x, int64_t count) const {
  spread((count + kGroup - 1) / kGroup, 4 * count * k_ * m_, [&](int64_t group) {
    const int64_t first = group * kGroup, last = first + kGroup < count ? first + kGroup : count;
    for (int64_t from = (k_ - 1) / kPanel * kPanel; from >= 0; from -= kPanel) {
      const int64_t to = from + kPanel < k_ ? from + kPanel : k_;
      for (int64_t i = first; i < last; ++i) {
        for (int64_t j = to - 1; j >= from; --j) reflect(x + i * m_, j);
      }
    }
  });
}

std::vector<double> Qr::q(int64_t count) const {
  std::vector<double> out(static_cast<size_t>(count * m_));
  for (int64_t i = 0; i < count; ++i) out[static_cast<size_t>(i * m_ + i)] = 1;
  apply(out.data(), count);
  return out;
}

}  // namespace cambium

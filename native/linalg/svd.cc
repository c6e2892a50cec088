#include "linalg/svd.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

#include "core/random.h"
#include "linalg/qr.h"
#include "linalg/vectors.h"

namespace cambium {
namespace {

constexpr int64_t kBlock = 16;  // rows that are rotated against another block's while both lie in the cache
constexpr int kMostSweeps = 40;

struct Rows {
  std::vector<double> values;
  int64_t count, width;
  double* at(int64_t i) { return values.data() + i * width; }
};

// Makes the rows of x orthogonal: J x0 = x. The same rotations turn `turned` (rows of J).
class Jacobi {
 public:
  Jacobi(Rows& x, Rows& turned) : x_(x), turned_(turned), squares_(static_cast<size_t>(x.count)), tolerance_(std::sqrt(static_cast<double>(x.count)) * 1e-16) {}

  void run() {
    const int64_t blocks = (x_.count + kBlock - 1) / kBlock, players = blocks + blocks % 2;
    for (int sweep = 0; sweep < kMostSweeps; ++sweep) {
      spread(x_.count, 8 * x_.count * x_.width, [&](int64_t i) { refresh(i); });
      std::vector<int64_t> rotations(static_cast<size_t>(blocks > players / 2 ? blocks : players / 2));
      int64_t total = 0;
      const auto count = [&](int64_t tasks, const auto& body) {
        spread(tasks, 4 * tasks * kBlock * kBlock * x_.width, [&](int64_t task) { rotations[static_cast<size_t>(task)] = body(task); });
        total += std::accumulate(rotations.begin(), rotations.begin() + tasks, int64_t{0});
      };
      count(blocks, [&](int64_t b) { return within(b); });
      // Round robin: in each round every block meets one other, and no two pairs share a block.
      for (int64_t round = 0; round + 1 < players; ++round) {
        count(players / 2, [&](int64_t game) {
          const int64_t a = game == 0 ? players - 1 : (round + game) % (players - 1), b = (round + players - 1 - game) % (players - 1);
          return a < blocks && b < blocks ? across(std::min(a, b), std::max(a, b)) : 0;
        });
      }
      if (total == 0) break;
    }
  }

 private:
  // A long chain of rotations drifts from length one: J's row is brought back, and x's with it.
  void refresh(int64_t i) {
    const double back = 1 / std::sqrt(dot(turned_.at(i), turned_.at(i), turned_.width));
    scale(turned_.at(i), turned_.width, back), scale(x_.at(i), x_.width, back);
    squares_[static_cast<size_t>(i)] = dot(x_.at(i), x_.at(i), x_.width);
  }
  int64_t end(int64_t block) const { return std::min((block + 1) * kBlock, x_.count); }
  int64_t within(int64_t block) {
    int64_t rotations = 0;
    for (int64_t i = block * kBlock; i < end(block); ++i) {
      for (int64_t j = i + 1; j < end(block); ++j) rotations += orthogonalise(i, j);
    }
    return rotations;
  }
  int64_t across(int64_t a, int64_t b) {
    int64_t rotations = 0;
    for (int64_t i = a * kBlock; i < end(a); ++i) {
      for (int64_t j = b * kBlock; j < end(b); ++j) rotations += orthogonalise(i, j);
    }
    return rotations;
  }
  bool orthogonalise(int64_t i, int64_t j) {
    double &ii = squares_[static_cast<size_t>(i)], &jj = squares_[static_cast<size_t>(j)];
    const double ij = dot(x_.at(i), x_.at(j), x_.width);
    if (!(std::fabs(ij) > tolerance_ * std::sqrt(ii) * std::sqrt(jj))) return false;
    const double zeta = (jj - ii) / (2 * ij), t = (zeta < 0 ? -1 : 1) / (std::fabs(zeta) + std::hypot(1, zeta));
    const double c = 1 / std::sqrt(1 + t * t), s = c * t;
    rotate(x_.at(i), x_.at(j), x_.width, c, s);
    rotate(turned_.at(i), turned_.at(j), turned_.width, c, s);
    ii = std::max(0.0, ii - t * ij), jj += t * ij;
    return true;
  }

  Rows &x_, &turned_;
  std::vector<double> squares_;
  double tolerance_;
};

// Order of the rows by falling norm; equal norms in index order.
std::vector<int64_t> by_norm(Rows& x, std::vector<double>* norms) {
  norms->resize(static_cast<size_t>(x.count));
  spread(x.count, 2 * x.count * x.width, [&](int64_t i) { (*norms)[static_cast<size_t>(i)] = std::sqrt(dot(x.at(i), x.at(i), x.width)); });
  std::vector<int64_t> order(static_cast<size_t>(x.count));
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int64_t i, int64_t j) { return (*norms)[static_cast<size_t>(i)] > (*norms)[static_cast<size_t>(j)]; });
  return order;
}

// Fills row i with a unit vector orthogonal to rows 0 .. i - 1: the unit vector that they cover least, projected twice.
void complete(Rows& v, int64_t i) {
  int64_t best = 0;
  double least = std::numeric_limits<double>::infinity();
  for (int64_t c = 0; c < v.width; ++c) {
    double covered = 0;
    for (int64_t r = 0; r < i; ++r) covered += v.at(r)[c] * v.at(r)[c];
    if (covered < least) least = covered, best = c;
  }
  double* row = v.at(i);
  std::fill(row, row + v.width, 0.0);
  row[best] = 1;
  for (int pass = 0; pass < 2; ++pass) {
    for (int64_t r = 0; r < i; ++r) add_scaled(row, v.at(r), v.width, -dot(row, v.at(r), v.width));
    scale(row, v.width, 1 / std::sqrt(dot(row, row, v.width)));
  }
}

// For m >= n; `columns` [n][m] scaled so that nothing over- or underflows.
void svd_tall(std::vector<double> columns, int64_t m, int64_t n, int64_t rank, Svd* out) {
  Rows a{std::move(columns), n, m};
  std::vector<double> norms;
  const std::vector<int64_t> order = by_norm(a, &norms);
  std::vector<double> sorted(a.values.size());
  for (int64_t i = 0; i < n; ++i) std::copy_n(a.at(order[static_cast<size_t>(i)]), m, sorted.data() + i * m);
  a.values = std::vector<double>();
  const Qr qr(std::move(sorted), m, n);
  Rows x{std::vector<double>(static_cast<size_t>(n * n)), n, n}, j{std::vector<double>(static_cast<size_t>(n * n)), n, n};
  for (int64_t r = 0; r < n; ++r) {
    for (int64_t c = r; c < n; ++c) x.at(r)[c] = qr.r(r, c);
    j.at(r)[r] = 1;
  }
  Jacobi(x, j).run();
  const std::vector<int64_t> rows = by_norm(x, &norms);
  out->rank = rank;
  out->u.assign(static_cast<size_t>(rank * m), 0), out->s.resize(static_cast<size_t>(rank)), out->v.resize(static_cast<size_t>(rank * n));
  Rows right{std::vector<double>(static_cast<size_t>(rank * n)), rank, n};
  for (int64_t i = 0; i < rank; ++i) {
    const int64_t row = rows[static_cast<size_t>(i)];
    const double sigma = norms[static_cast<size_t>(row)];
    out->s[static_cast<size_t>(i)] = sigma;
    std::copy_n(j.at(row), n, out->u.data() + i * m);
    if (sigma > 0) {
      for (int64_t c = 0; c < n; ++c) right.at(i)[c] = x.at(row)[c] / sigma;
    } else {
      complete(right, i);
    }
  }
  qr.apply(out->u.data(), rank);
  for (int64_t i = 0; i < rank; ++i) {
    for (int64_t c = 0; c < n; ++c) out->v[static_cast<size_t>(i * n + order[static_cast<size_t>(c)])] = right.at(i)[c];
  }
}

std::vector<double> transposed(const std::vector<double>& a, int64_t m, int64_t n, double factor) {
  constexpr int64_t kTile = 32;
  std::vector<double> out(a.size());
  spread((n + kTile - 1) / kTile, 4 * m * n, [&](int64_t tile) {
    const int64_t to = std::min(n, (tile + 1) * kTile);
    for (int64_t i0 = 0; i0 < m; i0 += kTile) {
      const int64_t i1 = std::min(m, i0 + kTile);
      for (int64_t j = tile * kTile; j < to; ++j) {
        for (int64_t i = i0; i < i1; ++i) out[static_cast<size_t>(j * m + i)] = factor * a[static_cast<size_t>(i * n + j)];
      }
    }
  });
  return out;
}

// A power of two that brings the largest entry near 1, so that scaling rounds nothing; 0 when an entry is not finite.
double safe_scale(const std::vector<double>& a) {
  double largest = 0;
  for (const double x : a) {
    if (!std::isfinite(x)) return 0;
    largest = std::max(largest, std::fabs(x));
  }
  return largest == 0 ? 1 : std::ldexp(1.0, std::max(-1000, std::min(1000, -std::ilogb(largest))));
}

void finish(Svd* out, int64_t m, int64_t n, double factor) {
  for (int64_t i = 0; i < out->rank; ++i) {
    double* u = out->u.data() + i * m;
    const double* largest = std::max_element(u, u + m, [](double x, double y) { return std::fabs(x) < std::fabs(y); });
    if (*largest < 0) scale(u, m, -1), scale(out->v.data() + i * n, n, -1);
    out->s[static_cast<size_t>(i)] /= factor;
  }
}

}  // namespace

bool svd(const std::vector<double>& a, int64_t m, int64_t n, int64_t rank, Svd* out) {
  const double factor = safe_scale(a);
  if (factor == 0) return false;
  if (m >= n) {
    svd_tall(transposed(a, m, n, factor), m, n, rank, out);
  } else {
    std::vector<double> columns(a);  // a's rows are the columns of its transpose
    scale(columns.data(), static_cast<int64_t>(columns.size()), factor);
    svd_tall(std::move(columns), n, m, rank, out);
    std::swap(out->u, out->v);
  }
  finish(out, m, n, factor);
  return true;
}

namespace {

// y [count][rows] = for each of x [count][width] its products with the rows of a [rows][width].
std::vector<double> products(const std::vector<double>& a, int64_t rows, int64_t width, const std::vector<double>& x, int64_t count) {
  std::vector<double> y(static_cast<size_t>(count * rows));
  spread((rows + kBlock - 1) / kBlock, 2 * rows * width * count, [&](int64_t block) {
    for (int64_t j = 0; j < count; ++j) {
      for (int64_t i = block * kBlock; i < std::min(rows, (block + 1) * kBlock); ++i) {
        y[static_cast<size_t>(j * rows + i)] = dot(a.data() + i * width, x.data() + j * width, width);
      }
    }
  });
  return y;
}

}  // namespace

bool svd_randomized(const std::vector<double>& a, int64_t m, int64_t n, int64_t rank, const Randomized& options, Svd* out) {
  const int64_t least = m < n ? m : n, l = std::min(least, rank + options.oversample);
  if (l >= least) return svd(a, m, n, rank, out);
  const double factor = safe_scale(a);
  if (factor == 0) return false;
  const std::vector<double> columns = transposed(a, m, n, factor), rows = transposed(columns, n, m, 1);
  std::vector<double> subspace(static_cast<size_t>(l * n));
  for (size_t i = 0; i < subspace.size(); ++i) subspace[i] = 2.0 * static_cast<double>(philox_uniform(options.seed, 0, 0, i)) - 1.0;
  std::vector<double> left;
  for (int64_t iteration = 0;; ++iteration) {
    left = Qr(products(rows, m, n, subspace, l), m, l).q(l);
    subspace = products(columns, n, m, left, l);
    if (iteration == options.iterations) break;
    subspace = Qr(std::move(subspace), n, l).q(l);
  }
  // subspace [l][n] = Qᵀ A: its own decomposition, whose left vectors are combinations of Q's columns.
  Svd small;
  svd_tall(std::move(subspace), n, l, rank, &small);
  out->rank = rank, out->s = std::move(small.s), out->v = std::move(small.u);
  out->u.assign(static_cast<size_t>(rank * m), 0);
  spread(rank, 2 * rank * l * m, [&](int64_t i) {
    for (int64_t j = 0; j < l; ++j) add_scaled(out->u.data() + i * m, left.data() + j * m, m, small.v[static_cast<size_t>(i * l + j)]);
  });
  finish(out, m, n, factor);
  return true;
}

}  // namespace cambium

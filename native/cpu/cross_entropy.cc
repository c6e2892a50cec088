// cross_entropy: the loss of args.h, row by row. A row's largest logit is found first; sums along a row are f32 lane by lane
// over a few hundred elements and f64 from there on, sums over rows f64 in order.
#include "cpu/elementwise.h"
#include "cpu/index.h"
#include "cpu/kernels.h"

namespace cambium {
namespace CAMBIUM_LEVEL {
namespace {

constexpr int64_t kFlush = 32 * 16;  // elements summed in f32 before a partial sum goes to f64

// What multiplies logits to give z: s / T.
float factor_of(const cross_entropy_args& a) {
  const double s = a.scale == nullptr ? 1.0 : a.log_scale ? __builtin_exp(double(*a.scale)) : double(*a.scale);
  return float(s / double(a.temperature));
}

// Σ over [0, count) of f(i, n), whose lanes from n on do not count.
template <class F>
CAMBIUM_INLINE double sum_lanes(int64_t count, const F& f) {
  double total = 0;
  for (int64_t begin = 0; begin < count; begin += kFlush) {
    vf part{};
    for_lanes(begin, smaller(count, begin + kFlush), [&](int64_t i, int n) {
      const vf x = f(i, n);
      if (n == W) part += x;
      for (int lane = 0; n < W && lane < n; ++lane) part[lane] += x[lane];
    });
    total += double(sum(part));
  }
  return total;
}

double log_sum_exp(const float* row, int64_t count, float factor) {
  const Input x(row, CB_F32);
  float top = row[0] * factor;
  for (int64_t i = 1; i < count; ++i) top = row[i] * factor > top ? row[i] * factor : top;
  const double total = sum_lanes(count, [&](int64_t i, int n) { return exp(x.at(i, n) * factor - top); });
  return double(top) + __builtin_log(total);
}

// CE of row i, without T²; its log-sum-exps are kept.
double row_loss(const cross_entropy_args& a, int64_t i, float factor) {
  const float* row = a.logits + i * a.c;
  const Input x(row, CB_F32);
  const double lse = log_sum_exp(row, a.c, factor);
  a.lse[i] = float(lse);
  if (a.labels != nullptr) {
    const double own = double(row[a.labels[i]] * factor), smoothing = double(a.smoothing);
    if (smoothing == 0) return lse - own;
    const double all = sum_lanes(a.c, [&](int64_t j, int n) { return x.at(j, n) * factor; });
    return lse - (1 - smoothing) * own - smoothing * all / double(a.c);
  }
  const Input teacher(a.teacher + i * a.c, CB_F32);
  a.teacher_lse[i] = float(log_sum_exp(a.teacher + i * a.c, a.c, factor));
  const float top = a.teacher_lse[i], base = a.lse[i];
  return sum_lanes(a.c, [&](int64_t j, int n) {
    return exp(teacher.at(j, n) * factor - top) * (base - x.at(j, n) * factor);
  });
}

// dlogits = factor · dz of row i, dz = step · (softmax − target); returns Σ dz ⊙ logits.
double row_gradient(const cross_entropy_grads& g, int64_t i, float factor, float step) {
  const cross_entropy_args& a = *g.f;
  const Input x(a.logits + i * a.c, CB_F32), teacher(a.teacher == nullptr ? nullptr : a.teacher + i * a.c, CB_F32);
  const Output out(g.dlogits == nullptr ? nullptr : g.dlogits + i * a.c, CB_F32, g.dlogits_accumulate);
  const float lse = a.lse[i], uniform = a.smoothing / float(a.c);
  double along = 0;
  for_lanes(0, a.c, [&](int64_t j, int n) {
    const vf value = x.at(j, n);
    vf target = set(uniform);
    if (a.labels == nullptr) target = exp(teacher.at(j, n) * factor - a.teacher_lse[i]);
    else if (a.labels[i] >= j && a.labels[i] < j + n) target[a.labels[i] - j] += 1.f - a.smoothing;
    const vf dz = step * (exp(value * factor - lse) - target);
    if (out.data != nullptr) out.put(j, factor * dz, n);
    for (int lane = 0; g.dscale != nullptr && lane < n; ++lane) along += double(dz[lane]) * double(value[lane]);
  });
  return along;
}

}  // namespace

int cross_entropy_forward(CbContext* context, const cross_entropy_args* f) {
  const cross_entropy_args& a = *f;
  *a.loss = 0;
  if (a.n == 0) return CB_OK;
  if (a.labels != nullptr && !indices_in_range(context, "cross_entropy labels", a.labels, a.n, a.c)) return CB_INDEX;
  double* rows = static_cast<double*>(context->scratch(context, size_t(a.n) * sizeof(double)));
  if (rows == nullptr) return CB_OUT_OF_MEMORY;
  const float factor = factor_of(a);
  for_rows(a.n, a.c, [&a, rows, factor](int64_t i) { rows[i] = row_loss(a, i, factor); });
  double loss = 0;
  for (int64_t i = 0; i < a.n; ++i) loss += rows[i];
  *a.loss = float(loss * double(a.temperature) * double(a.temperature) / double(a.n));
  return CB_OK;
}

int cross_entropy_backward(CbContext* context, const cross_entropy_grads* g) {
  const cross_entropy_args& a = *g->f;
  double* rows = static_cast<double*>(context->scratch(context, size_t(a.n + 1) * sizeof(double)));
  if (rows == nullptr) return CB_OUT_OF_MEMORY;
  const float factor = factor_of(a);
  const float step = a.n == 0 ? 0 : *g->dy * a.temperature * a.temperature / float(a.n);
  for_rows(a.n, a.c, [g, rows, factor, step](int64_t i) { rows[i] = row_gradient(*g, i, factor, step); });
  if (g->dscale == nullptr) return CB_OK;
  double total = 0;
  for (int64_t i = 0; i < a.n; ++i) total += rows[i];
  total *= a.log_scale ? double(factor) : 1 / double(a.temperature);
  *g->dscale = float(total + (g->dscale_accumulate ? double(*g->dscale) : 0.0));
  return CB_OK;
}

}  // namespace CAMBIUM_LEVEL
}  // namespace cambium

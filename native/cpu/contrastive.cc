// contrastive: the symmetric multi-positive loss with margin and smoothing of args.h, with one N×N array.
// Both directions share the targets ỹ_ij, whose rows sum to one and whose columns sum to c_j (not one where classes
// have different sizes and ε > 0):
//   CE of row i = lse_i − Σ_j ỹ_ij z_ij;  CE of column j = c_j · lse_j − Σ_i ỹ_ij z_ij
//   dz_ij = dy/2N · (softmax_j z_ij + c_j · softmax_i z_ij − 2 ỹ_ij); dimage = s·dz·text, dtext = s·dzᵀ·image.
// Sums of the loss and of dscale are f64, per row or block of columns, added in order.
#include "cpu/elementwise.h"
#include "cpu/kernels.h"

namespace cambium {
namespace CAMBIUM_LEVEL {
namespace {

constexpr int64_t kColumns = 512;    // columns of one task of a column pass
constexpr int64_t kFlush = 32 * 16;  // elements summed in f32 before a partial sum goes to f64

// The weights of a positive and of a negative in each row of ỹ, and the sums c of its columns: [N] each.
struct Targets {
  float *positive, *negative, *column;
};

float factor(const contrastive_args& c) { return c.log_scale ? float(__builtin_exp(double(*c.scale))) : *c.scale; }

CAMBIUM_INLINE vi same_label(const int32_t* labels, int64_t j, int n, int32_t label) {
  if (n == W) return load_int(labels + j) == label;
  vi other = set_int(~label);
  for (int lane = 0; lane < n; ++lane) other[lane] = labels[j + lane];
  return other == label;
}

CAMBIUM_INLINE int64_t count_lanes(vi mask) {  // lanes that are -1
  int64_t total = 0;
  for (int lane = 0; lane < W; ++lane) total -= mask[lane];
  return total;
}

Targets targets_of(CbContext* context, const contrastive_args& c) {
  float* weights = static_cast<float*>(context->scratch(context, size_t(3 * c.n + 1) * sizeof(float)));
  if (weights == nullptr) return {nullptr, nullptr, nullptr};
  for_rows(c.n, c.n, [&c, weights](int64_t i) {
    vi total{};
    for_lanes(0, c.n, [&](int64_t j, int n) { total += same_label(c.labels, j, n, c.labels[i]); });
    const int64_t positives = count_lanes(total), negatives = c.n - positives;
    const double epsilon = negatives > 0 ? double(c.epsilon) : 0.0;
    weights[i] = float((1.0 - epsilon) / double(positives));
    weights[c.n + i] = negatives > 0 ? float(epsilon / double(negatives)) : 0.f;
    weights[2 * c.n + i] = float(positives);
  });
  const Targets t{weights, weights + c.n, weights + 2 * c.n};
  double all = 0;
  for (int64_t i = 0; i < c.n; ++i) all += double(t.negative[i]);
  // Rows of one class have the same weights: column j holds |P| positives, and negatives from every other class.
  for (int64_t j = 0; j < c.n; ++j) {
    const double positives = double(t.column[j]);
    t.column[j] = float(positives * double(t.positive[j]) + all - positives * double(t.negative[j]));
  }
  return t;
}

// Turns the products of row i into z in place; returns Σ_j ỹ_ij z_ij and keeps the row's log-sum-exp.
double finish_row(const contrastive_args& c, int64_t i, float s, Targets t) {
  float* z = c.logits + i * c.n;
  const Output to(z, CB_F32);
  const Input from(z, CB_F32);
  vf largest = set(-__builtin_inff());
  double weighted = 0;
  for (int64_t begin = 0; begin < c.n; begin += kFlush) {
    vf positive{}, negative{};
    for_lanes(begin, smaller(c.n, begin + kFlush), [&](int64_t j, int n) {
      const vi same = same_label(c.labels, j, n, c.labels[i]);
      const vf value = (from.at(j, n) + (same ? vf{} : set(c.margin))) * s;
      to.put(j, value, n);
      const vf inside = n == W ? value : from.at(j, n);  // read back: zeros beyond the row
      positive += same ? inside : vf{};
      negative += same ? vf{} : inside;
      if (n == W) largest = max(value, largest);
      for (int lane = 0; n < W && lane < n; ++lane) largest = max(set(value[lane]), largest);
    });
    weighted += double(t.positive[i]) * double(sum(positive)) + double(t.negative[i]) * double(sum(negative));
  }
  const float top = max_lane(largest);
  double total = 0;
  for (int64_t begin = 0; begin < c.n; begin += kFlush) {
    vf part{};
    for_lanes(begin, smaller(c.n, begin + kFlush), [&](int64_t j, int n) {
      const vf e = exp(from.at(j, n) - top);
      if (n == W) part += e;
      for (int lane = 0; n < W && lane < n; ++lane) part[lane] += e[lane];
    });
    total += double(sum(part));
  }
  const double lse = double(top) + __builtin_log(total);
  c.row_lse[i] = float(lse);
  return lse - weighted;
}

// Sums over the rows seen so far, for each column of one task; f32 sums go to the f64 ones every kFlush rows.
struct Columns {
  float top[kColumns], exps[kColumns], wanted[kColumns];
  double total[kColumns], weighted[kColumns];
};

void add_row(const contrastive_args& c, Targets t, int64_t i, int64_t begin, int64_t end, Columns& s) {
  const Input z(c.logits + i * c.n, CB_F32), top(s.top, CB_F32);
  const Output exps(s.exps, CB_F32, true), wanted(s.wanted, CB_F32, true);
  const vf positive = set(t.positive[i]), negative = set(t.negative[i]);
  for_lanes(begin, end, [&](int64_t j, int n) {
    const vf value = z.at(j, n);
    const vi same = same_label(c.labels, j, n, c.labels[i]);
    exps.put(j - begin, exp(value - top.at(j - begin, n)), n);
    wanted.put(j - begin, (same ? positive : negative) * value, n);
  });
}

// Cross entropies of columns [begin, end), added; z is final.
double finish_columns(const contrastive_args& c, Targets t, int64_t begin, int64_t end) {
  Columns s;
  const int64_t columns = end - begin;
  for (int64_t j = 0; j < columns; ++j) {
    s.top[j] = c.logits[begin + j];
    s.total[j] = s.weighted[j] = 0;
  }
  for (int64_t i = 1; i < c.n; ++i) {
    const Input z(c.logits + i * c.n + begin, CB_F32), top(s.top, CB_F32);
    const Output to(s.top, CB_F32);
    for_lanes(0, columns, [&](int64_t j, int n) { to.put(j, max(z.at(j, n), top.at(j, n)), n); });
  }
  for (int64_t block = 0; block < c.n; block += kFlush) {
    for (int64_t j = 0; j < columns; ++j) s.exps[j] = s.wanted[j] = 0;
    for (int64_t i = block; i < smaller(c.n, block + kFlush); ++i) add_row(c, t, i, begin, end, s);
    for (int64_t j = 0; j < columns; ++j) {
      s.total[j] += double(s.exps[j]);
      s.weighted[j] += double(s.wanted[j]);
    }
  }
  double loss = 0;
  for (int64_t j = 0; j < columns; ++j) {
    const double lse = double(s.top[j]) + __builtin_log(s.total[j]);
    c.column_lse[begin + j] = float(lse);
    loss += double(t.column[begin + j]) * lse - s.weighted[j];
  }
  return loss;
}

// Overwrites row i of z with dz; returns Σ_j dz_ij · ∂z_ij/∂(*scale).
double backward_row(const contrastive_args& c, int64_t i, float s, float dy, Targets t) {
  float* z = c.logits + i * c.n;
  const Input from(z, CB_F32), column_lse(c.column_lse, CB_F32), column(t.column, CB_F32);
  const Output to(z, CB_F32);
  const vf negative = set(2.f * t.negative[i]), positive = set(2.f * t.positive[i]);
  const float half = dy / (2.f * float(c.n)), row_lse = c.row_lse[i];
  vd along{};
  for_lanes(0, c.n, [&](int64_t j, int n) {
    const vf value = from.at(j, n);
    const vi same = same_label(c.labels, j, n, c.labels[i]);
    const vf wanted = same ? positive : negative;
    const vf dz = half * (exp(value - row_lse) + column.at(j, n) * exp(value - column_lse.at(j, n)) - wanted);
    to.put(j, dz, n);
    add_double(along, from.at(j, n), value);  // read back: zeros beyond the row
  });
  if (c.log_scale) return sum_double(along);
  return s != 0 ? sum_double(along) / double(s) : 0.0;
}

// ∂loss/∂scale where the scale itself is zero: z no longer tells the cosines.
double row_cosines(const contrastive_args& c, int64_t i) {
  double along = 0;
  for (int64_t j = 0; j < c.n; ++j) {
    double cosine = c.labels[i] == c.labels[j] ? 0.0 : double(c.margin);
    for (int64_t k = 0; k < c.p; ++k) cosine += double(c.image[i * c.p + k]) * double(c.text[j * c.p + k]);
    along += double(c.logits[i * c.n + j]) * cosine;
  }
  return along;
}

GemmCall product(MatrixView a, MatrixView b, int64_t m, int64_t n, int64_t k, float* c) {
  GemmCall call{};
  call.a = a;
  call.b = b;
  call.m = m;
  call.n = n;
  call.k = k;
  call.c = c;
  call.c_type = call.product = Element::f32;
  return call;
}

}  // namespace

int contrastive_forward(CbContext* context, const contrastive_args* f) {
  const contrastive_args& c = *f;
  *c.loss = 0;
  if (c.n == 0) return CB_OK;
  const MatrixView image{c.image, Element::f32, c.p, 1}, text{c.text, Element::f32, 1, c.p};
  if (gemm_table().gemm(product(image, text, c.n, c.n, c.p, c.logits)) != 0) return CB_OUT_OF_MEMORY;
  const int64_t column_tasks = divide_up(c.n, kColumns);
  const Targets targets = targets_of(context, c);
  double* rows = static_cast<double*>(context->scratch(context, size_t(c.n + column_tasks) * sizeof(double)));
  if (targets.positive == nullptr || rows == nullptr) return CB_OUT_OF_MEMORY;
  double* columns = rows + c.n;
  const float s = factor(c);
  for_rows(c.n, c.n, [&c, rows, s, targets](int64_t i) { rows[i] = finish_row(c, i, s, targets); });
  parallel_for(column_tasks, [&c, columns, targets](int64_t task) {
    columns[task] = finish_columns(c, targets, task * kColumns, smaller(c.n, (task + 1) * kColumns));
  });
  double loss = 0;
  for (int64_t i = 0; i < c.n + column_tasks; ++i) loss += rows[i];
  *c.loss = float(loss / (2.0 * double(c.n)));
  return CB_OK;
}

int contrastive_backward(CbContext* context, const contrastive_grads* g) {
  const contrastive_args& c = *g->f;
  const Targets targets = targets_of(context, c);
  double* rows = static_cast<double*>(context->scratch(context, size_t(c.n + 1) * sizeof(double)));
  if (targets.positive == nullptr || rows == nullptr) return CB_OUT_OF_MEMORY;
  const float s = factor(c), dy = *g->dy;
  const bool cosines = g->dscale != nullptr && s == 0 && !c.log_scale;
  for_rows(c.n, c.n, [&c, rows, s, dy, targets, cosines](int64_t i) {
    rows[i] = backward_row(c, i, s, dy, targets);
    if (cosines) rows[i] = row_cosines(c, i);
  });
  const auto gradient = [&](MatrixView dz, const float* other, float* to, bool accumulate) {
    if (to == nullptr) return 0;
    GemmCall call = product(dz, MatrixView{other, Element::f32, c.p, 1}, c.n, c.p, c.n, to);
    call.epilogue.scale = &s;
    call.epilogue.accumulate = accumulate;
    return gemm_table().gemm(call);
  };
  if (gradient(MatrixView{c.logits, Element::f32, c.n, 1}, c.text, g->dimage, g->dimage_accumulate) != 0 ||
      gradient(MatrixView{c.logits, Element::f32, 1, c.n}, c.image, g->dtext, g->dtext_accumulate) != 0) {
    return CB_OUT_OF_MEMORY;
  }
  if (g->dscale != nullptr) {
    double total = g->dscale_accumulate ? double(*g->dscale) : 0.0;
    for (int64_t i = 0; i < c.n; ++i) total += rows[i];
    *g->dscale = float(total);
  }
  return CB_OK;
}

}  // namespace CAMBIUM_LEVEL
}  // namespace cambium

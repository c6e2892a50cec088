// contrastive: the symmetric multi-positive loss with margin and smoothing of args.h, a strip of rows of z at a time:
// nothing N×N is kept. Backward makes the strips again from the sums that forward left.
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

constexpr int64_t kStrip = 1 << 20;  // elements of z at a time
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

// Rows [first, first + count) of z.
struct Strip {
  int64_t first, count;
  float* z;  // [count, N]
};

int64_t strip_rows(int64_t n) { return larger(1, smaller(n, larger(64, kStrip / n))); }

// Turns the products of row i into z in place; returns Σ_j ỹ_ij z_ij and keeps the row's log-sum-exp.
double finish_row(const contrastive_args& c, int64_t i, float* z, float s, Targets t) {
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

// Of each column, over the rows seen so far: the largest z, Σ exp(z − largest), Σ ỹ z.
struct Columns {
  float* top;
  double *total, *weighted;
};

// Sums of one task's columns over some rows in f32; they go to the f64 ones every kFlush rows.
struct ColumnPart {
  float top[kColumns], exps[kColumns], wanted[kColumns];
};

void add_row(const contrastive_args& c, Targets t, int64_t i, const float* row, int64_t begin, int64_t end,
             ColumnPart& s) {
  const Input z(row, CB_F32), top(s.top, CB_F32);
  const Output exps(s.exps, CB_F32, true), wanted(s.wanted, CB_F32, true);
  const vf positive = set(t.positive[i]), negative = set(t.negative[i]);
  for_lanes(begin, end, [&](int64_t j, int n) {
    const vf value = z.at(j, n);
    const vi same = same_label(c.labels, j, n, c.labels[i]);
    exps.put(j - begin, exp(value - top.at(j - begin, n)), n);
    wanted.put(j - begin, (same ? positive : negative) * value, n);
  });
}

// Adds a strip, whose z is final, to columns [begin, end).
void add_strip(const contrastive_args& c, Targets t, const Strip& strip, int64_t begin, int64_t end,
               const Columns& sums) {
  ColumnPart s;
  const int64_t columns = end - begin;
  for (int64_t j = 0; j < columns; ++j) s.top[j] = sums.top[begin + j];
  for (int64_t i = 0; i < strip.count; ++i) {
    const Input z(strip.z + i * c.n + begin, CB_F32), top(s.top, CB_F32);
    const Output to(s.top, CB_F32);
    for_lanes(0, columns, [&](int64_t j, int n) { to.put(j, max(z.at(j, n), top.at(j, n)), n); });
  }
  for (int64_t j = 0; j < columns; ++j) {
    if (sums.total[begin + j] != 0) sums.total[begin + j] *= __builtin_exp(double(sums.top[begin + j]) - s.top[j]);
    sums.top[begin + j] = s.top[j];
  }
  for (int64_t block = 0; block < strip.count; block += kFlush) {
    for (int64_t j = 0; j < columns; ++j) s.exps[j] = s.wanted[j] = 0;
    for (int64_t i = block; i < smaller(strip.count, block + kFlush); ++i)
      add_row(c, t, strip.first + i, strip.z + i * c.n, begin, end, s);
    for (int64_t j = 0; j < columns; ++j) {
      sums.total[begin + j] += double(s.exps[j]);
      sums.weighted[begin + j] += double(s.wanted[j]);
    }
  }
}

// Turns the products of row i into dz in place; returns Σ_j dz_ij · ∂z_ij/∂(*scale).
double backward_row(const contrastive_args& c, int64_t i, float* z, float s, float dy, Targets t) {
  const Input from(z, CB_F32), column_lse(c.column_lse, CB_F32), column(t.column, CB_F32);
  const Output to(z, CB_F32);
  const vf negative = set(2.f * t.negative[i]), positive = set(2.f * t.positive[i]);
  const float half = dy / (2.f * float(c.n)), row_lse = c.row_lse[i];
  vd along{};
  for_lanes(0, c.n, [&](int64_t j, int n) {
    const vi same = same_label(c.labels, j, n, c.labels[i]);
    const vf cosine = from.at(j, n) + (same ? vf{} : set(c.margin)), value = cosine * s;
    const vf wanted = same ? positive : negative;
    const vf dz = half * (exp(value - row_lse) + column.at(j, n) * exp(value - column_lse.at(j, n)) - wanted);
    to.put(j, dz, n);
    add_double(along, from.at(j, n), c.log_scale ? value : cosine);  // read back: zeros beyond the row
  });
  return sum_double(along);
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

// f(strip) for every strip, which holds the products image · textᵀ; a CB_ status.
template <class F>
int for_strips(CbContext* context, const contrastive_args& c, const F& f) {
  const int64_t most = strip_rows(c.n);
  float* z = static_cast<float*>(context->scratch(context, size_t(most * c.n) * sizeof(float)));
  if (z == nullptr) return CB_OUT_OF_MEMORY;
  const MatrixView text{c.text, Element::f32, 1, c.p};
  for (int64_t first = 0; first < c.n; first += most) {
    const Strip strip{first, smaller(most, c.n - first), z};
    const MatrixView image{c.image + first * c.p, Element::f32, c.p, 1};
    if (gemm_table().gemm(product(image, text, strip.count, c.n, c.p, z)) != 0) return CB_OUT_OF_MEMORY;
    if (const int status = f(strip)) return status;
  }
  return CB_OK;
}

}  // namespace

int contrastive_forward(CbContext* context, const contrastive_args* f) {
  const contrastive_args& c = *f;
  *c.loss = 0;
  if (c.n == 0) return CB_OK;
  const Targets targets = targets_of(context, c);
  double* rows = static_cast<double*>(context->scratch(context, size_t(3 * c.n) * sizeof(double)));
  float* tops = static_cast<float*>(context->scratch(context, size_t(c.n) * sizeof(float)));
  if (targets.positive == nullptr || rows == nullptr || tops == nullptr) return CB_OUT_OF_MEMORY;
  const Columns columns{tops, rows + c.n, rows + 2 * c.n};
  for (int64_t j = 0; j < c.n; ++j) {
    columns.top[j] = -__builtin_inff();
    columns.total[j] = columns.weighted[j] = 0;
  }
  const float s = factor(c);
  const int status = for_strips(context, c, [&](const Strip& strip) -> int {
    for_rows(strip.count, c.n, [&](int64_t i) {
      rows[strip.first + i] = finish_row(c, strip.first + i, strip.z + i * c.n, s, targets);
    });
    parallel_for(divide_up(c.n, kColumns), [&](int64_t task) {
      add_strip(c, targets, strip, task * kColumns, smaller(c.n, (task + 1) * kColumns), columns);
    });
    return CB_OK;
  });
  if (status != CB_OK) return status;
  double loss = 0;
  for (int64_t i = 0; i < c.n; ++i) loss += rows[i];
  for (int64_t j = 0; j < c.n; ++j) {
    const double lse = double(columns.top[j]) + __builtin_log(columns.total[j]);
    c.column_lse[j] = float(lse);
    loss += double(targets.column[j]) * lse - columns.weighted[j];
  }
  *c.loss = float(loss / (2.0 * double(c.n)));
  return CB_OK;
}

int contrastive_backward(CbContext* context, const contrastive_grads* g) {
  const contrastive_args& c = *g->f;
  if (c.n == 0) return CB_OK;
  const Targets targets = targets_of(context, c);
  double* rows = static_cast<double*>(context->scratch(context, size_t(c.n) * sizeof(double)));
  if (targets.positive == nullptr || rows == nullptr) return CB_OUT_OF_MEMORY;
  const float s = factor(c), dy = *g->dy;
  const auto gradient = [&](GemmCall call, bool accumulate) {
    call.epilogue.scale = &s;
    call.epilogue.accumulate = accumulate;
    return gemm_table().gemm(call) == 0 ? CB_OK : CB_OUT_OF_MEMORY;
  };
  const int status = for_strips(context, c, [&](const Strip& strip) -> int {
    for_rows(strip.count, c.n, [&](int64_t i) {
      rows[strip.first + i] = backward_row(c, strip.first + i, strip.z + i * c.n, s, dy, targets);
    });
    if (g->dimage != nullptr) {
      const MatrixView dz{strip.z, Element::f32, c.n, 1}, text{c.text, Element::f32, c.p, 1};
      float* const to = g->dimage + strip.first * c.p;
      if (const int wrong = gradient(product(dz, text, strip.count, c.p, c.n, to), g->dimage_accumulate)) return wrong;
    }
    if (g->dtext == nullptr) return CB_OK;
    const MatrixView dz{strip.z, Element::f32, 1, c.n}, image{c.image + strip.first * c.p, Element::f32, c.p, 1};
    return gradient(product(dz, image, c.n, c.p, strip.count, g->dtext), g->dtext_accumulate || strip.first > 0);
  });
  if (status != CB_OK || g->dscale == nullptr) return status;
  double total = g->dscale_accumulate ? double(*g->dscale) : 0.0;
  for (int64_t i = 0; i < c.n; ++i) total += rows[i];
  *g->dscale = float(total);
  return CB_OK;
}

}  // namespace CAMBIUM_LEVEL
}  // namespace cambium

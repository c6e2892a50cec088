// The low-rank deltas of linear as one term of its product: the A of all deltas above each other, the B beside each other
// at their columns, one such pair for each adapter; which row has which adapter; and the gradients of A, B and bias.
// The columns of `between` are those of the deltas that read x, then those that read a tensor of their own; a bias is one
// more column after its delta's, always 1 · scale.
#pragma once
#include <cstdio>

#include "cpu/elementwise.h"
#include "cpu/kernels.h"

namespace cambium {
namespace CAMBIUM_LEVEL {
namespace {

// Rows of one adapter that follow each other.
struct RowRun {
  int64_t begin, end;
  int32_t adapter;
};

// What both directions need, in scratch memory.
struct Deltas {
  const linear_args* f;
  int64_t rank = 0, shared = 0, depth = 0;  // columns of between, those that read x, padded
  int64_t adapters = 1;
  int64_t* first = nullptr;          // [deltas] first column of each
  float *a = nullptr, *b = nullptr;  // [adapters][depth][in], [adapters][out][depth]
  float *factor = nullptr, *offset = nullptr;    // [adapters][rank], forward
  float* backward_factor = nullptr;              // the same without the columns of biases
  const int32_t* adapter = nullptr;              // [m] or null
  RowRun* runs = nullptr;                        // sorted by adapter, without -1
  int64_t run_count = 0;
  Span* columns = nullptr;                       // [rank] of y
};

inline int64_t delta_columns(const CbLowRank& d) { return d.rank + (d.bias != nullptr ? 1 : 0); }

// Adapter of every row, and runs of rows by adapter.
inline int rows_of_samples(CbContext* context, const linear_args& f, Deltas* s) {
  const int64_t most = f.index != nullptr ? f.samples : 1;
  s->runs = static_cast<RowRun*>(context->scratch(context, size_t(most + 1) * sizeof(RowRun)));
  if (s->runs == nullptr) return CB_OUT_OF_MEMORY;
  if (f.index == nullptr) {
    s->runs[0] = {0, f.m, 0};
    s->run_count = 1;
    return CB_OK;
  }
  int32_t* const adapter = static_cast<int32_t*>(context->scratch(context, size_t(f.m + 1) * sizeof(int32_t)));
  if (adapter == nullptr) return CB_OUT_OF_MEMORY;
  const auto refuse = [&](const char* what, int64_t most, int64_t got) {
    if (context->message != nullptr)
      snprintf(context->message, 255, "linear: expected %s to %lld, got %lld", what, (long long)most, (long long)got);
    return CB_INDEX;
  };
  if (f.offsets[0] != 0) return refuse("offsets from 0", f.m, f.offsets[0]);
  if (f.offsets[f.samples] != f.m) return refuse("offsets up", f.m, f.offsets[f.samples]);
  for (int64_t i = 0; i < f.samples; ++i) {
    if (f.index[i] < -1 || f.index[i] >= f.adapters) return refuse("adapters from -1", f.adapters - 1, f.index[i]);
    if (f.offsets[i + 1] < f.offsets[i] || f.offsets[i + 1] > f.m) return refuse("offsets rising", f.m, f.offsets[i + 1]);
    for (int64_t row = f.offsets[i]; row < f.offsets[i + 1]; ++row) adapter[row] = f.index[i];
  }
  for (int32_t id = 0; id < f.adapters; ++id)
    for (int64_t i = 0; i < f.samples; ++i)
      if (f.index[i] == id && f.offsets[i] < f.offsets[i + 1])
        s->runs[s->run_count++] = {f.offsets[i], f.offsets[i + 1], id};
  s->adapter = adapter;
  return CB_OK;
}

inline void lay_out(const linear_args& f, Deltas* s) {
  int64_t at = 0;
  for (int pass = 0; pass < 2; ++pass) {
    const bool own = pass == 1;
    for (int64_t i = 0; i < f.deltas; ++i) {
      const CbLowRank& d = f.low_rank[i];
      if ((d.x != nullptr) != own) continue;
      s->first[i] = at;
      for (int64_t c = 0; c < delta_columns(d); ++c) s->columns[at + c] = {d.column, d.column + d.out};
      for (int64_t t = 0; t < s->adapters; ++t)
        for (int64_t c = 0; c < delta_columns(d); ++c) {
          const int64_t to = t * s->rank + at + c;
          s->factor[to] = s->backward_factor[to] = c < d.rank ? d.scale[t] : 0;
          s->offset[to] = c < d.rank ? 0 : d.scale[t];
        }
      at += delta_columns(d);
    }
    if (!own) s->shared = at;
  }
}

// A and B of all deltas as two matrices an adapter.
inline void gather(const linear_args& f, const Deltas& s) {
  const int64_t in = f.in, depth = s.depth, block = 256, blocks = divide_up(f.out, block);
  parallel_for(s.adapters * (blocks + 1), [&](int64_t task) {
    const int64_t t = task / (blocks + 1), part = task % (blocks + 1) - 1;
    if (part < 0) {
      float* const to = s.a + t * depth * in;
      __builtin_memset(to, 0, size_t(depth * in) * sizeof(float));
      for (int64_t i = 0; i < f.deltas; ++i) {
        const CbLowRank& d = f.low_rank[i];
        if (d.x == nullptr)
          __builtin_memcpy(to + s.first[i] * in, d.a + t * d.rank * in, size_t(d.rank * in) * sizeof(float));
      }
      return;
    }
    const int64_t begin = part * block, end = smaller(f.out, begin + block);
    float* const to = s.b + t * f.out * depth;
    __builtin_memset(to + begin * depth, 0, size_t((end - begin) * depth) * sizeof(float));
    for (int64_t i = 0; i < f.deltas; ++i) {
      const CbLowRank& d = f.low_rank[i];
      for (int64_t o = larger(begin, d.column); o < smaller(end, d.column + d.out); ++o) {
        float* const line = to + o * depth + s.first[i];
        const float* const from = d.b + (t * d.out + o - d.column) * d.rank;
        for (int64_t r = 0; r < d.rank; ++r) line[r] = from[r];
        if (d.bias != nullptr) line[d.rank] = d.bias[t * d.out + o - d.column];
      }
    }
  });
}

inline int prepare_deltas(CbContext* context, const linear_args& f, Deltas* s) {
  s->f = &f;
  s->adapters = f.index != nullptr ? f.adapters : 1;
  for (int64_t i = 0; i < f.deltas; ++i) s->rank += delta_columns(f.low_rank[i]);
  s->depth = padded_rank(s->rank);
  const auto take = [&](int64_t bytes) { return context->scratch(context, size_t(bytes)); };
  float* const floats = static_cast<float*>(take(s->adapters * (3 * s->rank + s->depth * (f.in + f.out)) * 4));
  Span* const spans = static_cast<Span*>(take(s->rank * int64_t(sizeof(Span)) + f.deltas * 8));
  if (floats == nullptr || spans == nullptr) return CB_OUT_OF_MEMORY;
  s->a = floats;
  s->b = s->a + s->adapters * s->depth * f.in;
  s->factor = s->b + s->adapters * s->depth * f.out;
  s->offset = s->factor + s->adapters * s->rank;
  s->backward_factor = s->offset + s->adapters * s->rank;
  s->columns = spans;
  s->first = reinterpret_cast<int64_t*>(spans + s->rank);
  if (const int status = rows_of_samples(context, f, s)) return status;
  lay_out(f, s);
  gather(f, *s);
  return CB_OK;
}

inline LowRankTerm forward_term(const Deltas& s, float* between) {
  const int64_t in = s.f->in, out = s.f->out;
  LowRankTerm t{};
  t.rank = s.rank;
  t.computed = s.shared;
  t.down = MatrixView{s.a, Element::f32, 1, in};
  t.up = MatrixView{s.b, Element::f32, 1, s.depth};
  t.adapters = s.adapters;
  t.down_step = s.depth * in;
  t.up_step = out * s.depth;
  t.factor = s.factor;
  t.offset = s.offset;
  t.adapter = s.adapter;
  t.between = between;
  t.up_columns = s.columns;
  return t;
}

inline LowRankTerm backward_term(const Deltas& s, float* ds) {
  LowRankTerm t = forward_term(s, ds);
  t.computed = s.rank;
  t.down = MatrixView{s.b, Element::f32, s.depth, 1};
  t.up = MatrixView{s.a, Element::f32, s.f->in, 1};
  t.down_step = s.f->out * s.depth;
  t.up_step = s.depth * s.f->in;
  t.factor = s.backward_factor;
  t.offset = nullptr;
  t.up_columns = nullptr;
  t.down_rows = s.columns;
  return t;
}

// The columns of `between` of deltas that read a tensor of their own.
inline int own_between(const Deltas& s, float* between) {
  const linear_args& f = *s.f;
  for (int64_t i = 0; i < f.deltas; ++i) {
    const CbLowRank& d = f.low_rank[i];
    if (d.x == nullptr) continue;
    LowRankTerm t = forward_term(s, between);
    t.computed = d.rank;
    t.down = MatrixView{d.a, Element::f32, 1, f.in};
    t.down_step = d.rank * f.in;
    const MatrixView x{d.x, Element(f.x_type), f.in, 1};
    if (gemm_table().between(x, t, f.m, f.in, Element(f.x_type), s.first[i]) != 0) return CB_OUT_OF_MEMORY;
    if (d.bias == nullptr) continue;
    const int64_t column = s.first[i] + d.rank;
    for (int64_t row = 0; row < f.m; ++row) {
      const int32_t id = s.adapter != nullptr ? s.adapter[row] : 0;
      between[row * s.rank + column] = id < 0 ? 0 : d.scale[id];
    }
  }
  return CB_OK;
}

// Gradients of a factor: for each adapter, result[r][n] (+)= Σ left[m][first + r] · right[m][n] over its rows; transposed:
// result[n][r]. The left factor has few columns: each piece of a row of `right` is read once and meets all of them in
// registers.
struct FactorGradient {
  const float* left;  // [m, ld]
  int64_t ld, first, rank;
  const void* right;  // [m, width] from column `column` of rows `row_length` long
  int32_t right_type;
  int64_t row_length, column, width;
  float* result;      // [adapters][rank][width], or transposed
  bool transposed, accumulate;
};

constexpr int kRankBlock = W == 16 ? 6 : 3, kVectors = 4;
constexpr int64_t kColumns = int64_t(kVectors) * W, kRowBlock = 256;

// total[r][..] += sums over rows [begin, end) for ranks [r0, r0 + count) and `columns` columns from `at` on.
template <bool WHOLE>
inline void add_rows(const FactorGradient& g, int64_t begin, int64_t end, int64_t r0, int count, int64_t at, int columns,
                     float* total) {
  const Input right(g.right, g.right_type);
  vf sum[kRankBlock][kVectors] = {};
  for (int64_t row = begin; row < end; ++row) {
    const int64_t from = row * g.row_length + g.column + at;
    const float* const left = g.left + row * g.ld + g.first + r0;
    vf v[kVectors];
#pragma GCC unroll 4
    for (int j = 0; j < kVectors; ++j) {
      const int n = columns - j * W;
      v[j] = WHOLE ? load_any(right.type, right.data, from + j * W) : n <= 0 ? vf{} : right.at(from + j * W, n < W ? n : W);
    }
#pragma GCC unroll 6
    for (int r = 0; r < kRankBlock; ++r) {
      const vf x = set(r < count ? left[r] : 0.f);
#pragma GCC unroll 4
      for (int j = 0; j < kVectors; ++j) sum[r][j] = fma(x, v[j], sum[r][j]);
    }
  }
  for (int r = 0; r < count; ++r)
    for (int j = 0; j < kVectors; ++j) {
      float* const to = total + (r0 + r) * kColumns + j * W;
      store(to, load(to) + sum[r][j]);
    }
}

inline void put_total(const FactorGradient& g, const float* total, int64_t adapter, int64_t at, int columns) {
  float* const result = g.result + adapter * g.rank * g.width;
  for (int64_t r = 0; r < g.rank; ++r)
    for (int64_t n = 0; n < columns; ++n) {
      float& to = result[g.transposed ? (at + n) * g.rank + r : r * g.width + at + n];
      to = total[r * kColumns + n] + (g.accumulate ? to : 0.f);
    }
}

inline int factor_gradient(const Deltas& s, const FactorGradient& g) {
  int failed = 0;
  parallel_for(divide_up(g.width, kColumns), [&](int64_t task) {
    const int64_t at = task * kColumns;
    const int columns = int(smaller(kColumns, g.width - at));
    float* const total = static_cast<float*>(thread_scratch(0, size_t(g.rank * kColumns) * sizeof(float)));
    if (total == nullptr) {
      __atomic_store_n(&failed, 1, __ATOMIC_RELAXED);
      return;
    }
    int64_t run = 0;
    for (int64_t t = 0; t < s.adapters; ++t) {
      __builtin_memset(total, 0, size_t(g.rank * kColumns) * sizeof(float));
      for (; run < s.run_count && s.runs[run].adapter == t; ++run)
        for (int64_t row = s.runs[run].begin; row < s.runs[run].end; row += kRowBlock)
          for (int64_t r = 0; r < g.rank; r += kRankBlock)
            (columns == kColumns ? add_rows<true> : add_rows<false>)(g, row, smaller(s.runs[run].end, row + kRowBlock), r,
                                                                     int(smaller(kRankBlock, g.rank - r)), at, columns, total);
      put_total(g, total, t, at, columns);
    }
  });
  return failed ? CB_OUT_OF_MEMORY : CB_OK;
}

// Of a product without rows.
inline void no_delta_gradients(const linear_args& f, const CbLowRank& d, const CbLowRankGrads& to) {
  const int64_t adapters = f.index != nullptr ? f.adapters : 1;
  const auto zero = [&](float* at, int64_t count, int32_t accumulate) {
    if (at != nullptr && !accumulate) __builtin_memset(at, 0, size_t(adapters * count) * sizeof(float));
  };
  zero(to.da, d.rank * f.in, to.da_accumulate);
  zero(to.db, d.out * d.rank, to.db_accumulate);
  zero(to.dbias, d.out, to.dbias_accumulate);
}

// dA, dB, dbias and dx of every delta, from ds = dbetween [m, rank] and dz [m, out].
inline int delta_gradients(const Deltas& s, const linear_grads& g, const float* ds, MatrixView dz) {
  const linear_args& f = *s.f;
  for (int64_t i = 0; i < f.deltas; ++i) {
    const CbLowRank& d = f.low_rank[i];
    const CbLowRankGrads& to = g.low_rank[i];
    const int64_t first = s.first[i];
    const int32_t dz_type = int32_t(dz.type);
    if (to.da != nullptr) {
      const FactorGradient a{ds, s.rank, first, d.rank, d.x != nullptr ? d.x : f.x, f.x_type, f.in, 0, f.in, to.da, false,
                             to.da_accumulate != 0};
      if (const int status = factor_gradient(s, a)) return status;
    }
    if (to.db != nullptr) {
      const FactorGradient b{f.between, s.rank, first, d.rank, dz.data, dz_type, f.out, d.column, d.out, to.db, true,
                             to.db_accumulate != 0};
      if (const int status = factor_gradient(s, b)) return status;
    }
    if (to.dbias != nullptr) {
      const FactorGradient b{f.between, s.rank, first + d.rank, 1, dz.data, dz_type, f.out, d.column, d.out, to.dbias, false,
                             to.dbias_accumulate != 0};
      if (const int status = factor_gradient(s, b)) return status;
    }
    if (to.dx == nullptr) continue;
    const Output dx(to.dx, to.dx_type, to.dx_accumulate);
    for (int64_t row = 0; row < f.m && s.adapter != nullptr && !to.dx_accumulate; ++row)
      if (s.adapter[row] < 0) for_lanes(row * f.in, (row + 1) * f.in, [&](int64_t j, int n) { dx.put(j, vf{}, n); });
    for (int64_t run = 0; run < s.run_count; ++run) {
      const RowRun& rows = s.runs[run];
      GemmCall call{};
      call.a = MatrixView{ds + rows.begin * s.rank + first, Element::f32, s.rank, 1};
      call.b = MatrixView{d.a + rows.adapter * d.rank * f.in, Element::f32, f.in, 1};
      call.m = rows.end - rows.begin, call.n = f.in, call.k = d.rank;
      call.c = static_cast<char*>(to.dx) + rows.begin * f.in * int64_t(element_size(Element(to.dx_type)));
      call.c_type = Element(to.dx_type), call.product = Element(f.x_type);
      call.epilogue.accumulate = to.dx_accumulate;
      if (gemm_table().gemm(call) != 0) return CB_OUT_OF_MEMORY;
    }
  }
  return CB_OK;
}

}  // namespace
}  // namespace CAMBIUM_LEVEL
}  // namespace cambium

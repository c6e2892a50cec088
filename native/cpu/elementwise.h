// How kernels walk over elements and rows: typed inputs and outputs, and loops cut into tasks by shape alone.
#pragma once
#include "cpu/parallel.h"
#include "cpu/simd.h"

namespace cambium {
namespace CAMBIUM_LEVEL {

constexpr int64_t kTaskElements = 16384;  // work of one task, in elements: some 64 KB, a few microseconds

typedef double vd __attribute__((vector_size(8 * CAMBIUM_WIDTH)));

CAMBIUM_INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
CAMBIUM_INLINE int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }
CAMBIUM_INLINE int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// A tensor that is read: n lanes (1 <= n <= W) from element i, as f32.
struct Input {
  const void* data;
  Element type;
  Input(const void* data_, int32_t type_) : data(data_), type(Element(type_)) {}
  CAMBIUM_INLINE vf at(int64_t i, int n) const {
    return n == W ? load_any(type, data, i) : load_any_n(type, data, i, n);
  }
  CAMBIUM_INLINE float scalar(int64_t i) const {
    return type == Element::f32 ? static_cast<const float*>(data)[i]
                                : bf16_to_f32(static_cast<const uint16_t*>(data)[i]);
  }
};

// A tensor that is written, or added to.
struct Output {
  void* data;
  Element type;
  bool accumulate;
  Output(void* data_, int32_t type_, bool accumulate_ = false)
      : data(data_), type(Element(type_)), accumulate(accumulate_) {}
  CAMBIUM_INLINE void put(int64_t i, vf x, int n) const {
    if (n == W) {
      store_any(type, data, i, accumulate ? x + load_any(type, data, i) : x);
    } else {
      store_any_n(type, data, i, accumulate ? x + load_any_n(type, data, i, n) : x, n);
    }
  }
};

// f(i, n) for every run of n <= W elements in [begin, end).
template <class F>
CAMBIUM_INLINE void for_lanes(int64_t begin, int64_t end, const F& f) {
  int64_t i = begin;
  for (; i + W <= end; i += W) f(i, W);
  if (i < end) f(i, int(end - i));
}

// The same over [0, count), spread over the pool.
template <class F>
inline void elementwise(int64_t count, const F& f) {
  parallel_for(divide_up(count, kTaskElements),
               [&](int64_t task) { for_lanes(task * kTaskElements, smaller(count, (task + 1) * kTaskElements), f); });
}

// f(row) for every row of an [m, d] matrix, spread over the pool in blocks of rows.
template <class F>
inline void for_rows(int64_t m, int64_t d, const F& f) {
  const int64_t rows = larger(1, kTaskElements / larger(1, d));
  parallel_for(divide_up(m, rows), [&](int64_t task) {
    const int64_t end = smaller(m, (task + 1) * rows);
    for (int64_t row = task * rows; row < end; ++row) f(row);
  });
}

// Sums in f64, lane by lane: total += x, total += a · b (exact products).
CAMBIUM_INLINE void add_double(vd& total, vf x) { total += __builtin_convertvector(x, vd); }
CAMBIUM_INLINE void add_double(vd& total, vf a, vf b) {
  total += __builtin_convertvector(a, vd) * __builtin_convertvector(b, vd);
}

CAMBIUM_INLINE double sum_double(const vd& x) {
  double total = 0;
  for (int i = 0; i < W; ++i) total += x[i];
  return total;
}

// Sums in f64 over [0, count): add(total, i, n) adds n lanes from element i; partial sums per task are added in order.
// Returns false when there is no memory for the partial sums.
template <class Context, class F>
inline bool sum_elements(Context* context, int64_t count, double* result, const F& add) {
  const int64_t tasks = divide_up(count, kTaskElements);
  *result = 0;
  if (tasks == 0) return true;
  double* partial = static_cast<double*>(context->scratch(context, size_t(tasks) * sizeof(double)));
  if (partial == nullptr) return false;
  parallel_for(tasks, [&](int64_t task) {
    vd total{};
    for_lanes(task * kTaskElements, smaller(count, (task + 1) * kTaskElements),
              [&](int64_t i, int n) { add(total, i, n); });
    partial[task] = sum_double(total);
  });
  for (int64_t task = 0; task < tasks; ++task) *result += partial[task];
  return true;
}

}  // namespace CAMBIUM_LEVEL
}  // namespace cambium

// See low_rank.h. Operands of products are rounded to x's type; sums are f32.
#include "cuda/elementwise.h"
#include "cuda/kernels.h"
#include "cuda/low_rank.h"

namespace cambium {
namespace cuda {
namespace {

__global__ void adapters_kernel(linear_args f, IndexCheck index, IndexCheck offsets, int32_t* adapter) {
  const int64_t b = blockIdx.x;
  int64_t first, count;
  if (!offsets.sample(f.offsets, b, f.samples, f.m, f.m, &first, &count)) return;
  const bool known = index.between(f.index[b], b, -1, f.adapters);
  for (int64_t i = threadIdx.x; i < count; i += kThreads) adapter[first + i] = known ? f.index[b] : -1;
}

// What a column of all deltas is.
struct Place {
  int32_t delta;       // -1: padding
  int64_t adapter, r;  // r == rank: the bias
};
__device__ Place place_of(const Deltas& d, int64_t column) {
  int32_t i = d.count - 1;
  while (i > 0 && d.at[i].at > column) --i;
  const Delta& delta = d.at[i];
  const int64_t within = column - delta.at, factors = d.adapters * delta.rank;
  if (within < factors) return {i, within / delta.rank, within % delta.rank};
  if (delta.bias != nullptr && within < factors + d.adapters) return {i, within - factors, delta.rank};
  return {-1, 0, 0};
}

enum class Source { forward, backward, between };

// Rows [m, width] of an operand: each row keeps the columns of its adapter.
struct Spread {
  Deltas d;
  Source source;
  const float* products;  // [m, width]; of between: [m, ranks]
  float* between;         // [m, ranks], written by forward; may be null
  void* to;
  __device__ void operator()(int64_t row, int64_t i, int n) const {
    const int64_t own = d.adapter != nullptr ? d.adapter[row] : 0;
    float v[kLanes] = {};
#pragma unroll
    for (int j = 0; j < kLanes; ++j) {
      const Place p = j < n ? place_of(d, i + j) : Place{-1, 0, 0};
      if (p.delta < 0 || p.adapter != own) continue;
      const Delta& delta = d.at[p.delta];
      const bool bias = p.r == delta.rank;
      const int64_t at = row * d.ranks + delta.first + p.r;
      if (source == Source::between) {
        v[j] = products[at];
      } else if (!bias || source == Source::forward) {
        v[j] = delta.scale[own] * (bias ? 1.f : products[row * d.width + i + j]);
        if (source == Source::forward && between != nullptr) between[at] = v[j];
      }
    }
    Output{to, d.type, 0}.store(row * d.width + i, n, v);
  }
};

// [out, width], or with `turned` [width, out]: B, and the bias as one more column.
struct Up {
  Deltas d;
  bool turned;
  void* to;
  __device__ float at(int64_t row, int64_t column) const {
    const Place p = place_of(d, column);
    if (p.delta < 0) return 0.f;
    const Delta& delta = d.at[p.delta];
    if (row < delta.column || row >= delta.column + delta.out) return 0.f;
    const int64_t o = p.adapter * delta.out + row - delta.column;
    return p.r == delta.rank ? delta.bias[o] : delta.b[o * delta.rank + p.r];
  }
  __device__ void operator()(int64_t row, int64_t i, int n) const {
    float v[kLanes] = {};
#pragma unroll
    for (int j = 0; j < kLanes; ++j)
      if (j < n) v[j] = turned ? at(i + j, row) : at(row, i + j);
    Output{to, d.type, 0}.store(row * (turned ? d.out : d.width) + i, n, v);
  }
};

// [width, in], or with `turned` [in, width]: A of the deltas that read linear's own x, zeros elsewhere.
struct Down {
  Deltas d;
  bool turned;
  void* to;
  __device__ float at(int64_t column, int64_t i) const {
    const Place p = place_of(d, column);
    if (p.delta < 0 || d.at[p.delta].x != nullptr || p.r == d.at[p.delta].rank) return 0.f;
    return d.at[p.delta].a[(p.adapter * d.at[p.delta].rank + p.r) * d.in + i];
  }
  __device__ void operator()(int64_t row, int64_t i, int n) const {
    float v[kLanes] = {};
#pragma unroll
    for (int j = 0; j < kLanes; ++j)
      if (j < n) v[j] = turned ? at(i + j, row) : at(row, i + j);
    Output{to, d.type, 0}.store(row * (turned ? d.width : d.in) + i, n, v);
  }
};

// From sums [out, width of the delta] to dB [T, out, rank] and dbias [T, out].
struct Collect {
  const float* sums;
  int64_t rank, out, adapters, width;
  Output db, dbias;
  __device__ void operator()(int64_t o, int64_t i, int n) const {
    for (int j = 0; j < n; ++j) {
      const int64_t c = i + j, factors = adapters * rank;
      const float x = sums[o * width + c];
      if (c < factors && db.data != nullptr) db.put((c / rank * out + o) * rank + c % rank, x);
      if (c >= factors && dbias.data != nullptr) dbias.put((c - factors) * out + o, x);
    }
  }
};

void* take(CbContext* context, int64_t elements, int32_t type) {
  return context->scratch(context, size_t(elements + kLanes) * size_of(type));
}

}  // namespace

int deltas_of(CbContext* context, const linear_args& f, Deltas* d) {
  if (f.deltas > kMostDeltas) {
    if (context->message != nullptr)
      snprintf(context->message, 255, "expected at most %d low-rank deltas on a GPU, got %lld", kMostDeltas,
               (long long)f.deltas);
    return CB_UNSUPPORTED;
  }
  *d = Deltas{int32_t(f.deltas), f.x_type, f.m, f.in, f.out, f.index != nullptr ? f.adapters : 1, 0, 0, nullptr, {}};
  for (int pass = 0; pass < 2; ++pass) {  // those that read x come first in `between`
    for (int32_t i = 0; i < d->count; ++i) {
      const CbLowRank& from = f.low_rank[i];
      if ((from.x != nullptr) != (pass == 1)) continue;
      d->at[i] = {from.a, from.b, from.bias, from.scale, from.x, from.rank, from.column, from.out, 0, d->ranks};
      d->ranks += from.rank + (from.bias != nullptr ? 1 : 0);
    }
  }
  for (int32_t i = 0; i < d->count; ++i) {
    d->at[i].at = d->width;
    d->width += divide_up(d->adapters * (d->at[i].rank + (d->at[i].bias != nullptr ? 1 : 0)), kLanes) * kLanes;
  }
  if (f.index == nullptr) return CB_OK;
  int32_t* const adapter = static_cast<int32_t*>(context->scratch(context, size_t(f.m + 1) * sizeof(int32_t)));
  if (adapter == nullptr) return CB_OUT_OF_MEMORY;
  d->adapter = adapter;
  if (f.samples == 0) return CB_OK;
  return CB_LAUNCH(context, adapters_kernel, dim3(unsigned(f.samples)), dim3(kThreads), 0, f,
                   index_check(context, "linear: index"), index_check(context, "linear: offsets"), adapter);
}

int forward_rows(CbContext* context, const linear_args& f, const Deltas& d, float* between, Operand* rows) {
  float* const products = static_cast<float*>(take(context, d.m * d.width, CB_F32));
  void* const to = take(context, d.m * d.width, d.type);
  if (products == nullptr || to == nullptr) return CB_OUT_OF_MEMORY;
  for (int32_t i = 0; i < d.count; ++i) {
    const Delta& delta = d.at[i];
    Product p{};
    p.m = d.m, p.n = d.adapters * delta.rank, p.parts = 1;
    p.part[0] = {{delta.x != nullptr ? delta.x : f.x, d.type, false, d.in}, {delta.a, CB_F32, false, d.in}, d.in};
    p.epilogue = plain(products + delta.at, CB_F32, 0, d.width);
    if (const int status = multiply(context, d.type, p)) return status;
  }
  *rows = {to, d.type, false, d.width};
  return for_rows(context, d.m, d.width, Spread{d, Source::forward, products, between, to});
}

int backward_rows(CbContext* context, const Deltas& d, Operand dz, Operand* rows) {
  float* const products = static_cast<float*>(take(context, d.m * d.width, CB_F32));
  void* const to = take(context, d.m * d.width, d.type);
  if (products == nullptr || to == nullptr) return CB_OUT_OF_MEMORY;
  Operand up;
  if (const int status = up_operand(context, d, false, &up)) return status;
  up.across = true;  // seen as [width, out]
  Product p{};
  p.m = d.m, p.n = d.width, p.parts = 1;
  p.part[0] = {dz, up, d.out};
  p.epilogue = plain(products, CB_F32, 0, d.width);
  if (const int status = multiply(context, d.type, p)) return status;
  *rows = {to, d.type, false, d.width};
  return for_rows(context, d.m, d.width, Spread{d, Source::backward, products, nullptr, to});
}

int up_operand(CbContext* context, const Deltas& d, bool across, Operand* up) {
  void* const to = take(context, d.out * d.width, d.type);
  if (to == nullptr) return CB_OUT_OF_MEMORY;
  *up = {to, d.type, across, across ? d.out : d.width};
  return for_rows(context, across ? d.width : d.out, across ? d.out : d.width, Up{d, across, to});
}

int down_operand(CbContext* context, const Deltas& d, bool across, Operand* down) {
  void* const to = take(context, d.in * d.width, d.type);
  if (to == nullptr) return CB_OUT_OF_MEMORY;
  *down = {to, d.type, across, across ? d.in : d.width};
  return for_rows(context, across ? d.width : d.in, across ? d.in : d.width, Down{d, !across, to});
}

int delta_gradients(CbContext* context, const linear_grads& g, const Deltas& d, Operand rows, Operand dz) {
  const linear_args& f = *g.f;
  void* between = nullptr;
  const auto columns = [](const Operand& o, int64_t at, bool across) {
    return Operand{static_cast<const char*>(o.data) + at * int64_t(size_of(o.type)), o.type, across, o.stride};
  };
  for (int32_t i = 0; i < d.count; ++i) {
    const Delta& delta = d.at[i];
    const CbLowRankGrads& to = g.low_rank[i];
    const int64_t factors = d.adapters * delta.rank;
    if (to.da != nullptr) {
      Product p{};
      p.m = factors, p.n = d.in, p.parts = 1;
      p.part[0] = {columns(rows, delta.at, true), {delta.x != nullptr ? delta.x : f.x, d.type, true, d.in}, d.m};
      p.epilogue = plain(to.da, CB_F32, to.da_accumulate, d.in);
      if (const int status = multiply(context, d.type, p)) return status;
    }
    if (to.db != nullptr || to.dbias != nullptr) {
      if (between == nullptr) {
        between = take(context, d.m * d.width, d.type);
        if (between == nullptr) return CB_OUT_OF_MEMORY;
        if (const int status = for_rows(context, d.m, d.width, Spread{d, Source::between, f.between, nullptr, between}))
          return status;
      }
      const int64_t width = factors + (delta.bias != nullptr ? d.adapters : 0);
      float* const sums = static_cast<float*>(take(context, delta.out * width, CB_F32));
      if (sums == nullptr) return CB_OUT_OF_MEMORY;
      Product p{};
      p.m = delta.out, p.n = width, p.parts = 1;
      p.part[0] = {columns(dz, delta.column, true), columns({between, d.type, false, d.width}, delta.at, true), d.m};
      p.epilogue = plain(sums, CB_F32, 0, width);
      if (const int status = multiply(context, d.type, p)) return status;
      const Collect collect{sums,
                            delta.rank,
                            delta.out,
                            d.adapters,
                            width,
                            {to.db, CB_F32, to.db_accumulate},
                            {to.dbias, CB_F32, to.dbias_accumulate}};
      if (const int status = for_rows(context, delta.out, width, collect)) return status;
    }
    if (to.dx == nullptr) continue;
    Product p{};
    p.m = d.m, p.n = d.in, p.parts = 1;
    p.part[0] = {columns(rows, delta.at, false), {delta.a, CB_F32, true, d.in}, factors};
    p.epilogue = plain(to.dx, to.dx_type, to.dx_accumulate, d.in);
    if (const int status = multiply(context, d.type, p)) return status;
  }
  return CB_OK;
}

}  // namespace cuda
}  // namespace cambium

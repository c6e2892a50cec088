// layer_norm: y = (x − μ) · r · weight + bias, r = 1/√(σ² + eps). Statistics by two passes over the row in f32.
// Backward of a row, with the saved x̂ and g = dy ⊙ weight:  dx = r · (g − mean(g) − x̂ · mean(g ⊙ x̂)).
// dweight and dbias are summed per block of rows, and the blocks in order.
#include "cpu/elementwise.h"
#include "cpu/kernels.h"

namespace cambium {
namespace CAMBIUM_LEVEL {
namespace {

constexpr int64_t kBlockRows = 64;  // rows whose dweight and dbias are summed by one task

// Σ f(i, n) over a row, in four interleaved sums: one would wait for the latency of every addition.
// f must give zeros beyond n lanes.
template <class F>
CAMBIUM_INLINE float row_sum(int64_t d, const F& f) {
  vf a{}, b{}, c{}, e{};
  int64_t i = 0;
  for (; i + 4 * W <= d; i += 4 * W) {
    a += f(i, W);
    b += f(i + W, W);
    c += f(i + 2 * W, W);
    e += f(i + 3 * W, W);
  }
  for (; i + W <= d; i += W) a += f(i, W);
  if (i < d) b += f(i, int(d - i));
  return sum((a + b) + (c + e));
}

CAMBIUM_INLINE vf first_lanes(vf x, int n) {
  if (n == W) return x;
  float lanes[CAMBIUM_WIDTH];
  store(lanes, x);
  return load_n(lanes, n);
}

template <Element X, Element Y>
void forward_row(const layer_norm_args& c, int64_t row) {
  const int64_t d = c.d, at = row * d;
  const auto x = [&](int64_t i, int n) { return n == W ? load_as<X>(c.x, at + i) : load_as_n<X>(c.x, at + i, n); };
  const float mean = row_sum(d, x) / float(d);
  const float variance = row_sum(d,
                                 [&](int64_t i, int n) {
                                   const vf centred = first_lanes(x(i, n) - mean, n);
                                   return centred * centred;
                                 }) /
                         float(d);
  const float rstd = 1.f / __builtin_sqrtf(variance + c.eps);
  for_lanes(0, d, [&](int64_t i, int n) {
    const vf scaled = (x(i, n) - mean) * rstd;
    if (c.normalized != nullptr) {
      n == W ? store_as<Y>(c.normalized, at + i, scaled) : store_as_n<Y>(c.normalized, at + i, scaled, n);
    }
    if (n == W) {
      const vf w = load(c.weight + i);
      store_as<Y>(c.y, at + i, c.bias != nullptr ? fma(scaled, w, load(c.bias + i)) : scaled * w);
    } else {
      const vf w = load_n(c.weight + i, n);
      store_as_n<Y>(c.y, at + i, c.bias != nullptr ? fma(scaled, w, load_n(c.bias + i, n)) : scaled * w, n);
    }
  });
  if (c.rstd != nullptr) c.rstd[row] = rstd;
}

template <Element X, Element Y>
void forward(const layer_norm_args& c) {
  for_rows(c.m, c.d, [&c](int64_t row) { forward_row<X, Y>(c, row); });
}

// One row of backward; `dweight` and `dbias` are this block's sums, or null.
template <Element Y>
void backward_row(const layer_norm_grads& g, int64_t row, float* dweight, float* dbias) {
  const layer_norm_args& c = *g.f;
  const int64_t d = c.d, at = row * d;
  const float rstd = c.rstd[row];
  const auto dy = [&](int64_t i, int n) { return n == W ? load_as<Y>(g.dy, at + i) : load_as_n<Y>(g.dy, at + i, n); };
  const auto xhat = [&](int64_t i, int n) {
    return n == W ? load_as<Y>(c.normalized, at + i) : load_as_n<Y>(c.normalized, at + i, n);
  };
  const auto weighted = [&](int64_t i, int n) {
    return dy(i, n) * (n == W ? load(c.weight + i) : load_n(c.weight + i, n));
  };
  if (dweight != nullptr || dbias != nullptr) {
    for_lanes(0, d, [&](int64_t i, int n) {
      if (dweight != nullptr) Output(dweight, CB_F32, true).put(i, dy(i, n) * xhat(i, n), n);
      if (dbias != nullptr) Output(dbias, CB_F32, true).put(i, dy(i, n), n);
    });
  }
  if (g.dx == nullptr) return;
  const float mean_g = row_sum(d, weighted) / float(d);
  const float mean_gx = row_sum(d, [&](int64_t i, int n) { return weighted(i, n) * xhat(i, n); }) / float(d);
  const Output dx(g.dx, g.dx_type, g.dx_accumulate);
  for_lanes(0, d,
            [&](int64_t i, int n) { dx.put(at + i, rstd * (weighted(i, n) - mean_g - xhat(i, n) * mean_gx), n); });
}

template <Element Y>
int backward(CbContext* context, const layer_norm_grads& g) {
  const layer_norm_args& c = *g.f;
  const int64_t blocks = divide_up(c.m, kBlockRows), d = c.d;
  const bool sums = g.dweight != nullptr || g.dbias != nullptr;
  if (!sums) {
    for_rows(c.m, d, [&g](int64_t row) { backward_row<Y>(g, row, nullptr, nullptr); });
    return CB_OK;
  }
  float* partial = static_cast<float*>(context->scratch(context, size_t(larger(1, blocks * 2 * d)) * sizeof(float)));
  if (partial == nullptr) return CB_OUT_OF_MEMORY;
  parallel_for(blocks, [&](int64_t block) {
    float* dweight = partial + block * 2 * d;
    __builtin_memset(dweight, 0, size_t(2 * d) * sizeof(float));
    for (int64_t row = block * kBlockRows; row < smaller(c.m, (block + 1) * kBlockRows); ++row) {
      backward_row<Y>(g, row, g.dweight != nullptr ? dweight : nullptr, g.dbias != nullptr ? dweight + d : nullptr);
    }
  });
  const auto reduce = [&](float* to, int64_t offset, bool accumulate) {
    const Output out(to, CB_F32, accumulate);
    if (to == nullptr) return;
    for_lanes(0, d, [&](int64_t i, int n) {
      vf total{};
      for (int64_t b = 0; b < blocks; ++b) total += Input(partial + b * 2 * d + offset, CB_F32).at(i, n);
      out.put(i, total, n);
    });
  };
  reduce(g.dweight, 0, g.dweight_accumulate);
  reduce(g.dbias, d, g.dbias_accumulate);
  return CB_OK;
}

}  // namespace

int layer_norm_forward(CbContext*, const layer_norm_args* f) {
  const bool x = f->x_type == CB_BF16, y = f->y_type == CB_BF16;
  if (x && y)
    forward<Element::bf16, Element::bf16>(*f);
  else if (x)
    forward<Element::bf16, Element::f32>(*f);
  else if (y)
    forward<Element::f32, Element::bf16>(*f);
  else
    forward<Element::f32, Element::f32>(*f);
  return CB_OK;
}

int layer_norm_backward(CbContext* context, const layer_norm_grads* g) {
  return g->f->y_type == CB_BF16 ? backward<Element::bf16>(context, *g) : backward<Element::f32>(context, *g);
}

}  // namespace CAMBIUM_LEVEL
}  // namespace cambium

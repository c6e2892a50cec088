// linear: y = act(column_scale ∘ (gate · (x Wᵀ) + Σ Δ) + bias) + residual + skip, and its gradients. See args.h for the
// contract.
//
// Everything but the product rides in its epilogue, and low-rank deltas in its sums (low_rank.h). Backward first makes
// dz = dy ⊙ act'(pre) ∘ column_scale in the product's type, in one pass together with the sums for dbias and
// dcolumn_scale; where dy is that already, nothing is made. A closed gate is read by the kernels: they skip the
// product.
#include "cuda/column_sums.h"
#include "cuda/kernels.h"
#include "cuda/low_rank.h"

namespace cambium {
namespace cuda {
namespace {

struct Differentiate {
  Input dy, pre, product, column_scale;
  int32_t act;
  int64_t out;
  Output dz;
  // The terms of dbias and of dcolumn_scale.
  __device__ void operator()(int64_t row, int64_t i, int n, float (&d)[kLanes], float (&along)[kLanes]) const {
    const int64_t at = row * out + i;
    float v[kLanes];
    dy.load(at, n, d);
    if (act != CB_ACT_NONE) {
      pre.load(at, n, v);
#pragma unroll
      for (int j = 0; j < kLanes; ++j) d[j] *= derivative(act, v[j]);
    }
    if (product.data != nullptr) {
      product.load(at, n, along);
#pragma unroll
      for (int j = 0; j < kLanes; ++j) along[j] *= d[j];
    } else {
#pragma unroll
      for (int j = 0; j < kLanes; ++j) along[j] = 0;
    }
    if (dz.data == nullptr) return;
#pragma unroll
    for (int j = 0; j < kLanes; ++j) v[j] = d[j];
    if (column_scale.data != nullptr) {
      float s[kLanes];
      column_scale.load(i, n, s);
#pragma unroll
      for (int j = 0; j < kLanes; ++j) v[j] *= s[j];
    }
    dz.store(at, n, v);
  }
  __device__ void operator()(int64_t row, int64_t i, int n) const {
    float d[kLanes], along[kLanes];
    (*this)(row, i, n, d, along);
  }
};

int differentiate(CbContext* context, const linear_grads& g, void* dz) {
  const linear_args& f = *g.f;
  const Differentiate pass{
      {g.dy, g.dy_type}, {f.pre, f.x_type}, {f.product, f.x_type}, {f.column_scale, CB_F32}, f.act, f.out,
      {dz, f.x_type, 0}};
  if (g.dbias == nullptr && g.dcolumn_scale == nullptr)
    return dz == nullptr ? int(CB_OK) : for_rows(context, f.m, f.out, pass);
  return column_sums(context, f.m, f.out, pass, {g.dbias, CB_F32, g.dbias_accumulate},
                     {g.dcolumn_scale, CB_F32, g.dcolumn_scale_accumulate});
}

// W as the right operand of x Wᵀ, and of dz W.
Operand weight(const linear_args& f, bool backward) {
  return {f.w, f.w_type, (f.transposed != 0) != backward, f.transposed ? f.out : f.in};
}

int input_gradient(CbContext* context, const linear_grads& g, Operand dz, const Deltas* deltas, const Operand* rows) {
  const linear_args& f = *g.f;
  Product p{};
  p.m = f.m, p.n = f.in, p.parts = deltas != nullptr ? 2 : 1;
  p.part[0] = {dz, weight(f, true), f.out};
  if (deltas != nullptr) {
    p.part[1] = {*rows, {}, deltas->width};
    if (const int status = down_operand(context, *deltas, p.part[0].b.across, &p.part[1].b)) return status;
  }
  p.epilogue = plain(g.dx, g.dx_type, g.dx_accumulate, f.in);
  p.epilogue.gate = f.gate;
  if (g.skip_is_x) p.epilogue.residual = {g.dy, g.dy_type};
  return multiply(context, f.x_type, p);
}

int weight_gradient(CbContext* context, const linear_grads& g, Operand dz) {
  const linear_args& f = *g.f;
  const Operand left{dz.data, dz.type, true, f.out}, x{f.x, f.x_type, true, f.in};
  Product p{};
  p.m = f.transposed ? f.in : f.out, p.n = f.transposed ? f.out : f.in, p.parts = 1;
  p.part[0] = {f.transposed ? x : left, f.transposed ? left : x, f.m};
  p.epilogue = plain(g.dw, CB_F32, g.dw_accumulate, p.n);
  p.epilogue.gate = f.gate;
  return multiply(context, f.x_type, p);
}

}  // namespace

int linear_forward(CbContext* context, const linear_args* f) {
  if (f->m == 0 || f->out == 0) return CB_OK;
  Product p{};
  p.m = f->m, p.n = f->out, p.parts = f->deltas > 0 ? 2 : 1;
  p.part[0] = {{f->x, f->x_type, false, f->in}, weight(*f, false), f->in};
  if (f->deltas > 0) {
    Deltas deltas;
    if (const int status = deltas_of(context, *f, &deltas)) return status;
    if (const int status = forward_rows(context, *f, deltas, f->between, &p.part[1].a)) return status;
    if (const int status = up_operand(context, deltas, p.part[0].b.across, &p.part[1].b)) return status;
    p.part[1].k = deltas.width;
  }
  p.epilogue = plain(f->y, f->y_type, 0, f->out);
  p.epilogue.gate = f->gate, p.epilogue.column_scale = f->column_scale, p.epilogue.bias = f->bias,
  p.epilogue.act = f->act;
  p.epilogue.raw = {f->product, f->x_type, 0}, p.epilogue.pre = {f->pre, f->x_type, 0};
  p.epilogue.residual = {f->residual, f->residual_type}, p.epilogue.skip = {f->skip, f->skip_type};
  return multiply(context, f->x_type, p);
}

int linear_backward(CbContext* context, const linear_grads* g) {
  const linear_args& f = *g->f;
  bool products = g->dx != nullptr || g->dw != nullptr;
  for (int64_t i = 0; i < f.deltas; ++i) {
    const CbLowRankGrads& d = g->low_rank[i];
    products = products || d.da != nullptr || d.db != nullptr || d.dbias != nullptr || d.dx != nullptr;
  }
  Operand dz{g->dy, g->dy_type, false, f.out};
  void* written = nullptr;
  if (products && (f.act != CB_ACT_NONE || f.column_scale != nullptr || g->dy_type != f.x_type)) {
    written = context->scratch(context, size_t(f.m * f.out + kLanes) * size_of(f.x_type));
    if (written == nullptr) return CB_OUT_OF_MEMORY;
    dz = {written, f.x_type, false, f.out};
  }
  if (const int status = differentiate(context, *g, written)) return status;
  if (!products) return CB_OK;
  Deltas deltas;
  Operand rows{};
  if (f.deltas > 0) {
    if (const int status = deltas_of(context, f, &deltas)) return status;
    if (const int status = backward_rows(context, deltas, dz, &rows)) return status;
  }
  if (g->dx != nullptr)
    if (const int status = input_gradient(context, *g, dz, f.deltas > 0 ? &deltas : nullptr, &rows)) return status;
  if (f.deltas > 0)
    if (const int status = delta_gradients(context, *g, deltas, rows, dz)) return status;
  return g->dw != nullptr ? weight_gradient(context, *g, dz) : CB_OK;
}

}  // namespace cuda
}  // namespace cambium

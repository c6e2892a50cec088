// linear: y = act(column_scale ∘ (gate · (x Wᵀ) + Σ Δ) + bias) + residual + skip, and its gradients. See args.h for the
// contract.
//
// Everything but the product rides in the epilogue of the product, and low-rank deltas in its sums
// (linear_low_rank.h). A weight's packed copy lies in its CbPack slots, one per direction: frozen weights are permuted
// once. With an activation, backward first makes dpre = dy ⊙ act'(pre) in one pass (in the product's type, together with
// the sums for dbias and dcolumn_scale); without, dy itself is dpre. A column scale makes dz = dpre ∘ column_scale of it
// in the same pass.
#include <sched.h>

#include <cstdlib>

#include "cpu/elementwise.h"
#include "cpu/kernels.h"
#include "cpu/linear_low_rank.h"

namespace cambium {
namespace CAMBIUM_LEVEL {
namespace {

constexpr int64_t kBlockRows = 64;  // rows of one task of a column sum
constexpr size_t kPackAlignment = 64;

CAMBIUM_INLINE vf activate(int32_t act, vf x) {
  return act == CB_ACT_QUICK_GELU ? quick_gelu(x) : act == CB_ACT_GELU ? gelu(x) : x;
}
CAMBIUM_INLINE vf derivative(int32_t act, vf x) {
  return act == CB_ACT_QUICK_GELU ? quick_gelu_derivative(x) : gelu_derivative(x);
}

// W as the right operand of x Wᵀ ([in, out]) or of dy W ([out, in]).
MatrixView weight_view(const linear_args& f, bool backward) {
  const Element type = Element(f.w_type);
  const int64_t columns = f.transposed ? f.out : f.in;
  if ((f.transposed != 0) != backward) return {f.w, type, columns, 1};
  return {f.w, type, 1, columns};
}

// Two environments may share a frozen weight: one of them packs, the other waits.
int pack_lock = 0;
void lock_packs() {
  while (__atomic_exchange_n(&pack_lock, 1, __ATOMIC_ACQUIRE) != 0) sched_yield();
}
void unlock_packs() { __atomic_store_n(&pack_lock, 0, __ATOMIC_RELEASE); }

// Distinguishes copies of other layouts: product type, direction, the micro-kernel that reads it, and how the weight is
// read (a storage may be seen as several matrices).
int64_t pack_tag(const linear_args& f, bool backward) {
  const MicroKernel& kernel = micro_kernel(Element(f.x_type));
  return 1 + f.x_type + 2 * int64_t(backward) + 4 * int64_t(kernel.k_unit) + 1024 * int64_t(kernel.nr) +
         (int64_t(kernel.type) << 32) + (int64_t(f.transposed != 0) << 33) + (f.in << 34);
}

int fill_pack(CbPack& slot, const linear_args& f, bool backward) {
  const int64_t k = backward ? f.out : f.in, n = backward ? f.in : f.out;
  const Element product = Element(f.x_type);
  const size_t bytes =
      (gemm_table().packed_b_bytes(k, n, product) + kPackAlignment - 1) / kPackAlignment * kPackAlignment;
  __atomic_store_n(&slot.version, 0, __ATOMIC_RELEASE);
  if (slot.data == nullptr || slot.bytes != bytes) {
    if (slot.data != nullptr && slot.release != nullptr) slot.release(slot.data);
    slot.data = aligned_alloc(kPackAlignment, bytes);
    slot.bytes = slot.data != nullptr ? bytes : 0;
    slot.release = free;
    if (slot.data == nullptr) return CB_OUT_OF_MEMORY;
  }
  if (gemm_table().pack_matrix_b(weight_view(f, backward), k, n, product, slot.data) != 0) return CB_OUT_OF_MEMORY;
  slot.tag = pack_tag(f, backward), slot.rows = f.out;
  __atomic_store_n(&slot.version, f.w_version, __ATOMIC_RELEASE);
  return CB_OK;
}

// The packed weight of one direction; null in *packed when the caller gave no slot to keep one.
int packed_weight(const linear_args& f, bool backward, const void** packed) {
  CbPack* slot = backward ? f.pack_backward : f.pack_forward;
  *packed = nullptr;
  if (slot == nullptr || f.w_version == 0) return CB_OK;
  lock_packs();
  int status = CB_OK;
  // The first rows of a weight are a matrix of their own with the same beginning: the copy may be of others. Backward sums over
  // rows, so that they must be the very ones; forward passes over those that it did not ask for.
  const bool rows_fit = backward ? slot->rows == f.out : slot->rows >= f.out;
  if (slot->version != f.w_version || slot->tag != pack_tag(f, backward) || !rows_fit) status = fill_pack(*slot, f, backward);
  *packed = slot->data;
  unlock_packs();
  return status;
}

// y = act(bias) + residual + skip: what is left of linear when its gate is closed.
void without_product(const linear_args& f) {
  const Input residual(f.residual, f.residual_type), skip(f.skip, f.skip_type), bias(f.bias, CB_F32);
  const Output y(f.y, f.y_type), pre(f.pre, f.x_type);
  const int32_t act = f.act;
  const int64_t out = f.out;
  for_rows(f.m, out, [=](int64_t row) {
    for_lanes(0, out, [=](int64_t i, int n) {
      const int64_t at = row * out + i;
      const vf t = bias.data != nullptr ? bias.at(i, n) : vf{};
      if (pre.data != nullptr) pre.put(at, t, n);
      vf value = activate(act, t);
      if (residual.data != nullptr) value += residual.at(at, n);
      if (skip.data != nullptr) value += skip.at(at, n);
      y.put(at, value, n);
    });
  });
}

// dz = dy ⊙ act'(pre) ∘ column_scale, written to `dz` (which may be pre itself) when that is another thing than dy, and the
// column sums for dbias and dcolumn_scale when they are wanted.
int differentiate(CbContext* context, const linear_grads& g, void* dz) {
  const linear_args& f = *g.f;
  const bool sums = g.dbias != nullptr || g.dcolumn_scale != nullptr;
  if (dz == nullptr && !sums) return CB_OK;
  const int64_t out = f.out, m = f.m, blocks = divide_up(m, kBlockRows);
  const Input dy(g.dy, g.dy_type), pre(f.pre, f.x_type), product(f.product, f.x_type), factor(f.column_scale, CB_F32);
  const Output to(dz, f.x_type);
  const int32_t act = f.act;
  const size_t floats = sums ? size_t(blocks * out + 1) : 1;
  float* const bias = static_cast<float*>(context->scratch(context, 2 * floats * sizeof(float)));
  if (bias == nullptr) return CB_OUT_OF_MEMORY;
  float* const scale = bias + floats;
  parallel_for(blocks, [=](int64_t block) {
    float *const bias_sums = bias + block * out, *const scale_sums = scale + block * out;
    if (sums) __builtin_memset(bias_sums, 0, size_t(out) * sizeof(float));
    if (sums) __builtin_memset(scale_sums, 0, size_t(out) * sizeof(float));
    const Output bias_sum(bias_sums, CB_F32, true), scale_sum(scale_sums, CB_F32, true);
    for (int64_t row = block * kBlockRows; row < smaller(m, (block + 1) * kBlockRows); ++row) {
      for_lanes(0, out, [=](int64_t j, int n) {
        vf d = dy.at(row * out + j, n);
        if (act != CB_ACT_NONE) d *= derivative(act, pre.at(row * out + j, n));
        if (sums) bias_sum.put(j, d, n);
        if (product.data != nullptr) scale_sum.put(j, d * product.at(row * out + j, n), n);
        if (factor.data != nullptr) d *= factor.at(j, n);
        if (to.data != nullptr) to.put(row * out + j, d, n);
      });
    }
  });
  const auto total = [=](const float* partial, float* result, int32_t accumulate) {
    const Output sum(result, CB_F32, accumulate);
    for_lanes(0, out, [=](int64_t j, int n) {
      vf all{};
      for (int64_t block = 0; block < blocks; ++block) all += Input(partial + block * out, CB_F32).at(j, n);
      sum.put(j, all, n);
    });
  };
  if (g.dbias != nullptr) total(bias, g.dbias, g.dbias_accumulate);
  if (g.dcolumn_scale != nullptr) total(scale, g.dcolumn_scale, g.dcolumn_scale_accumulate);
  return CB_OK;
}

// Gradients of a product that did not happen: dW is zero, dx is what skip carries.
void gradients_without_product(const linear_grads& g) {
  const linear_args& f = *g.f;
  if (g.dw != nullptr && !g.dw_accumulate) {
    const Output dw(g.dw, CB_F32);
    elementwise(f.in * f.out, [=](int64_t i, int n) { dw.put(i, vf{}, n); });
  }
  for (int64_t i = 0; i < f.deltas; ++i) no_delta_gradients(f, f.low_rank[i], g.low_rank[i]);
  if (g.dx == nullptr || (g.dx_accumulate && !g.skip_is_x)) return;
  const Output dx(g.dx, g.dx_type, g.dx_accumulate);
  const Input dy(g.dy, g.dy_type);
  const bool skip = g.skip_is_x;
  elementwise(f.m * f.in, [=](int64_t i, int n) { dx.put(i, skip ? dy.at(i, n) : vf{}, n); });
}

int input_gradient(const linear_grads& g, MatrixView dz, const LowRankTerm* term) {
  const linear_args& f = *g.f;
  GemmCall call{};
  if (const int status = packed_weight(f, true, &call.packed_b)) return status;
  call.a = dz;
  call.b = weight_view(f, true);
  call.m = f.m;
  call.n = f.in;
  call.k = f.out;
  call.c = g.dx;
  call.c_type = Element(g.dx_type);
  call.product = Element(f.x_type);
  call.term = term;
  call.epilogue.scale = f.gate;
  call.epilogue.accumulate = g.dx_accumulate;
  if (g.skip_is_x) {
    call.epilogue.residual = g.dy;
    call.epilogue.residual_type = Element(g.dy_type);
  }
  return gemm_table().gemm(call) == 0 ? CB_OK : CB_OUT_OF_MEMORY;
}

int weight_gradient(const linear_grads& g, MatrixView dz) {
  const linear_args& f = *g.f;
  const MatrixView x{f.x, Element(f.x_type), f.in, 1};
  const MatrixView left = f.transposed ? x : dz, right = f.transposed ? dz : x;
  GemmCall call{};
  call.a = MatrixView{left.data, left.type, 1, left.row_stride};  // transposed
  call.b = right;
  call.m = f.transposed ? f.in : f.out;
  call.n = f.transposed ? f.out : f.in;
  call.k = f.m;
  call.c = g.dw;
  call.c_type = Element::f32;
  call.product = Element(f.x_type);
  call.epilogue.scale = f.gate;
  call.epilogue.accumulate = g.dw_accumulate;
  return gemm_table().gemm(call) == 0 ? CB_OK : CB_OUT_OF_MEMORY;
}

bool has_product(const linear_args& f) { return f.in > 0 && (f.gate == nullptr || *f.gate != 0); }

}  // namespace

int linear_forward(CbContext* context, const linear_args* f) {
  if (f->m == 0 || f->out == 0) return CB_OK;
  if (!has_product(*f)) {
    without_product(*f);
    return CB_OK;
  }
  GemmCall call{};
  if (const int status = packed_weight(*f, false, &call.packed_b)) return status;
  Deltas deltas;
  LowRankTerm term;
  if (f->deltas > 0) {
    if (const int status = prepare_deltas(context, *f, &deltas)) return status;
    float* between = f->between;
    if (between == nullptr)
      between = static_cast<float*>(context->scratch(context, size_t(f->m * deltas.rank) * sizeof(float)));
    if (between == nullptr) return CB_OUT_OF_MEMORY;
    if (const int status = own_between(deltas, between)) return status;
    term = forward_term(deltas, between);
    call.term = &term;
  }
  call.a = MatrixView{f->x, Element(f->x_type), f->in, 1};
  call.b = weight_view(*f, false);
  call.m = f->m;
  call.n = f->out;
  call.k = f->in;
  call.c = f->y;
  call.c_type = Element(f->y_type);
  call.product = Element(f->x_type);
  Epilogue& e = call.epilogue;
  e.scale = f->gate;
  e.column_scale = f->column_scale;
  e.raw = f->product;
  e.raw_type = Element(f->x_type);
  e.bias = f->bias;
  e.activation = f->act;
  e.pre = f->pre;
  e.pre_type = Element(f->x_type);
  e.residual = f->residual;
  e.residual_type = Element(f->residual_type);
  e.skip = f->skip;
  e.skip_type = Element(f->skip_type);
  return gemm_table().gemm(call) == 0 ? CB_OK : CB_OUT_OF_MEMORY;
}

int linear_backward(CbContext* context, const linear_grads* g) {
  const linear_args& f = *g->f;
  MatrixView dz{g->dy, Element(g->dy_type), f.out, 1};
  void* written = nullptr;
  if (f.act != CB_ACT_NONE || f.column_scale != nullptr) {
    dz.type = Element(f.x_type);
    // In place of what it is made of, where that may go: the widest activation of a block is not held twice.
    const bool in_place = g->pre_is_free && f.act != CB_ACT_NONE && f.pre != nullptr;
    dz.data = written = in_place ? f.pre : context->scratch(context, size_t(f.m * f.out + 1) * element_size(dz.type));
    if (written == nullptr) return CB_OUT_OF_MEMORY;
  }
  if (const int status = differentiate(context, *g, written)) return status;
  if (!has_product(f) || f.m == 0 || f.out == 0) {
    gradients_without_product(*g);
    return CB_OK;
  }
  Deltas deltas;
  LowRankTerm term;
  if (f.deltas > 0) {
    if (const int status = prepare_deltas(context, f, &deltas)) return status;
    float* const ds = static_cast<float*>(context->scratch(context, size_t(f.m * deltas.rank) * sizeof(float)));
    if (ds == nullptr) return CB_OUT_OF_MEMORY;
    term = backward_term(deltas, ds);
    if (g->dx == nullptr && gemm_table().between(dz, term, f.m, f.out, Element(f.x_type), 0) != 0)
      return CB_OUT_OF_MEMORY;
  }
  if (g->dx != nullptr) {
    if (const int status = input_gradient(*g, dz, f.deltas > 0 ? &term : nullptr)) return status;
  }
  if (f.deltas > 0) {
    if (const int status = delta_gradients(deltas, *g, term.between, dz)) return status;
  }
  return g->dw != nullptr ? weight_gradient(*g, dz) : CB_OK;
}

}  // namespace CAMBIUM_LEVEL
}  // namespace cambium

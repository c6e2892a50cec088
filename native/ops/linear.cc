#include "ops/ops.h"
#include "ops/target.h"

namespace cambium {
namespace {

void check(const Tensor& x, const Tensor& w, const LinearOptions& o, const Shape& shape, int64_t out) {
  expect_float("linear", "weight", w);
  if (o.activation < CB_ACT_NONE || o.activation > CB_ACT_GELU) fail("E_ARGUMENT", "linear: expected activation none, quick_gelu or gelu, got %d", o.activation);
  if (o.activation != CB_ACT_NONE && (o.residual || o.skip)) fail("E_ARGUMENT", "linear: expected no residual beside an activation, got one");
  if (o.bias) {
    expect_type("linear", "bias", o.bias, DType::f32);
    expect_shape("linear", "bias", o.bias, {out});
  }
  if (o.gate) {
    expect_type("linear", "gate", o.gate, DType::f32);
    if (o.gate->count() != 1) fail("E_SHAPE", "linear: expected a gate of one element, got %s", o.gate->shape.text().c_str());
  }
  for (const Tensor& t : {o.residual, o.skip}) {
    if (!t) continue;
    expect_float("linear", "residual", t);
    if (t->count() != shape.count()) fail("E_SHAPE", "linear: expected a residual of shape %s, got %s", shape.text().c_str(), t->shape.text().c_str());
  }
  if (o.out != DType::f32 && o.out != DType::bf16) fail("E_DTYPE", "linear: expected a result of type f32 or bf16, got %s", name_of(o.out));
  (void)x;
}

}  // namespace

Tensor linear(Session& s, const Tensor& x, const Tensor& w, const LinearOptions& o) {
  expect_float("linear", "x", x);
  if (!w || w->shape.rank() != 2) fail("E_SHAPE", "linear: expected a weight with 2 dimensions, got %s", w ? w->shape.text().c_str() : "none");
  const int64_t in = w->shape[o.transposed ? 0 : 1], out = w->shape[o.transposed ? 1 : 0];
  if (x->width() != in) fail("E_SHAPE", "linear: expected x with %lld columns, got %s", static_cast<long long>(in), x->shape.text().c_str());
  const Shape shape = x->shape.with_last(out);
  check(x, w, o, shape, out);

  const bool wants_product = s.tape().wants({x, w, o.bias});
  const bool wants = wants_product || s.tape().wants({o.residual, o.skip});
  Tensor y = s.empty(shape, o.out, "linear");
  Tensor pre = o.activation != CB_ACT_NONE && wants_product ? s.empty(shape, x->dtype, "linear") : nullptr;
  const auto pointer = [](const Tensor& t) -> const void* { return t ? t->data() : nullptr; };
  linear_args a{};
  a.m = x->rows(), a.in = in, a.out = out;
  a.x = x->data(), a.w = w->data(), a.x_type = code(x->dtype), a.w_type = code(w->dtype);
  a.transposed = o.transposed, a.act = o.activation;
  a.bias = static_cast<const float*>(pointer(o.bias)), a.gate = static_cast<const float*>(pointer(o.gate));
  a.residual = pointer(o.residual), a.skip = pointer(o.skip);
  a.residual_type = o.residual ? code(o.residual->dtype) : 0, a.skip_type = o.skip ? code(o.skip->dtype) : 0;
  a.w_version = w->storage->version;
  // A frozen weight keeps the copy that forward reads. One that trains changes before it is read again, and backward
  // reads a weight's rows nearly as they lie: both are packed on the way, which costs no memory between uses.
  if (!w->requires_grad) a.pack_forward = w->storage->pack(0);
  a.y = y->data(), a.y_type = code(o.out);
  a.pre = pre ? pre->data() : nullptr;
  s.run("linear", s.backend().linear_forward, a);
  if (!wants) return y;

  const bool wants_w = w->requires_grad;
  const bool skip_is_x = o.skip == x && x->requires_grad;
  s.tape().record("linear", {y},
                  [&s, a, vx = Var(x), vw = Var(w), vb = Var(o.bias), vr = Var(o.residual), vs = Var(skip_is_x ? nullptr : o.skip), vy = Var(y), skip_is_x,
                   sx = Saved(wants_w ? x : nullptr), sw = Saved(x->requires_grad ? w : nullptr), sp = Saved(pre), sg = Saved(o.gate),
                   keep = w->storage](Gradients& g) {
                    Tensor dy = g.take(vy);
                    if (!dy) return;
                    linear_args f = a;
                    f.y = nullptr, f.residual = f.skip = nullptr;
                    sx.get("linear"), sw.get("linear"), sp.get("linear"), sg.get("linear");
                    const Slot dx = g.slot(vx), db = g.slot(vb);
                    const Target dw(s, g.slot(vw), vw.shape, DType::f32);
                    linear_grads b{};
                    b.dy = dy->data(), b.dy_type = code(dy->dtype);
                    b.dx = dx.data(), b.dx_type = type_of(dx), b.dx_accumulate = dx.accumulate, b.skip_is_x = skip_is_x;
                    b.dw = static_cast<float*>(dw.data()), b.dw_accumulate = dw.accumulate();
                    b.dbias = db.data<float>(), b.dbias_accumulate = db.accumulate;
                    if (b.dx || b.dw || b.dbias) s.run_backward("linear", s.backend().linear_backward, f, b);
                    dw.merge(s);
                    if (vs.wanted && vr.wanted) {
                      Slot skip = g.slot(vs);
                      s.cast_into(dy, skip.gradient, skip.accumulate);
                    } else if (vs.wanted) {
                      g.give(vs, std::move(dy));
                      return;
                    }
                    g.give(vr, std::move(dy));
                  });
  return y;
}

}  // namespace cambium

// Ops on whole tensors: sum, add, multiply, scale, reshape, slice_rows, cast, interpolate, copy.
#include "ops/ops.h"
#include "ops/target.h"

namespace cambium {
namespace {

add_args pair(const char* op, const Tensor& a, const Tensor& b, const Tensor& y) {
  expect_float(op, "a", a);
  expect_float(op, "b", b);
  expect_shape(op, "b", b, a->shape);
  return {a->count(), a->data(), b->data(), code(a->dtype), code(b->dtype), y->data(), code(y->dtype)};
}

}  // namespace

Tensor sum(Session& s, const Tensor& x, double factor) {
  expect_float("sum", "x", x);
  Tensor y = s.empty({1}, DType::f32, "sum");
  sum_args a{x->count(), x->data(), code(x->dtype), static_cast<float>(factor), y->data<float>()};
  s.run("sum", s.backend().sum_forward, a);
  if (!s.tape().wants({x})) return y;
  s.tape().record("sum", {y}, [&s, a, vx = Var(x), vy = Var(y)](Gradients& g) {
    const Tensor dy = g.take(vy);
    if (!dy) return;
    const Target dx(s, g.slot(vx), vx.shape, static_cast<DType>(a.type));
    s.run_backward("sum", s.backend().sum_backward, a, sum_grads{nullptr, dy->data<float>(), dx.data(), dx.accumulate()});
    dx.merge(s);
  });
  return y;
}

Tensor add(Session& s, const Tensor& a, const Tensor& b, DType out) {
  expect_float("add", "a", a);
  Tensor y = s.empty(a->shape, out, "add");
  const add_args args = pair("add", a, b, y);
  s.run("add", s.backend().add_forward, args);
  if (!s.tape().wants({a, b})) return y;
  s.tape().record("add", {y}, [&s, args, va = Var(a), vb = Var(b), vy = Var(y)](Gradients& g) {
    const Tensor dy = g.take(vy);
    if (!dy) return;
    const Slot da = g.slot(va), db = g.slot(vb);
    add_grads grads{nullptr, dy->data(), code(dy->dtype), da.data(), db.data(), type_of(da), type_of(db), da.accumulate, db.accumulate};
    s.run_backward("add", s.backend().add_backward, args, grads);
  });
  return y;
}

Tensor multiply(Session& s, const Tensor& a, const Tensor& b, DType out) {
  expect_float("multiply", "a", a);
  Tensor y = s.empty(a->shape, out, "multiply");
  const multiply_args args = pair("multiply", a, b, y);
  s.run("multiply", s.backend().multiply_forward, args);
  if (!s.tape().wants({a, b})) return y;
  s.tape().record("multiply", {y}, [&s, args, va = Var(a), vb = Var(b), vy = Var(y), sa = Saved(a), sb = Saved(b)](Gradients& g) {
    const Tensor dy = g.take(vy);
    if (!dy) return;
    sa.get("multiply"), sb.get("multiply");
    const Slot da = g.slot(va), db = g.slot(vb);
    multiply_grads grads{nullptr, dy->data(), code(dy->dtype), da.data(), db.data(), type_of(da), type_of(db), da.accumulate, db.accumulate};
    s.run_backward("multiply", s.backend().multiply_backward, args, grads);
  });
  return y;
}

Tensor scale(Session& s, const Tensor& x, const Tensor& factor) {
  expect_float("scale", "x", x);
  expect_type("scale", "factor", factor, DType::f32);
  if (factor->count() != 1) fail("E_SHAPE", "scale: expected a factor of one element, got %s", factor->shape.text().c_str());
  Tensor y = s.empty(x->shape, x->dtype, "scale");
  scale_args a{x->count(), x->data(), code(x->dtype), factor->data<float>(), y->data()};
  s.run("scale", s.backend().scale_forward, a);
  if (!s.tape().wants({x, factor})) return y;
  s.tape().record("scale", {y}, [&s, a, vx = Var(x), vf = Var(factor), vy = Var(y), sx = Saved(x), sf = Saved(factor)](Gradients& g) {
    const Tensor dy = g.take(vy);
    if (!dy) return;
    sx.get("scale"), sf.get("scale");
    const Target dx(s, g.slot(vx), vx.shape, static_cast<DType>(a.type));
    const Slot ds = g.slot(vf);
    s.run_backward("scale", s.backend().scale_backward, a, scale_grads{nullptr, dy->data(), dx.data(), dx.accumulate(), ds.data<float>(), ds.accumulate});
    dx.merge(s);
  });
  return y;
}

Tensor reshape(Session& s, const Tensor& x, const Shape& shape) {
  Tensor y = s.view(x, shape);
  if (s.tape().wants({x})) s.tape().record("reshape", {y}, [vx = Var(x), vy = Var(y)](Gradients& g) { g.give(vx, g.take(vy)); });
  return y;
}

Tensor slice_rows(Session& s, const Tensor& x, int64_t first, int64_t count) {
  Tensor y = s.slice(x, first, count);
  if (!s.tape().wants({x})) return y;
  s.tape().record("slice_rows", {y}, [&s, first, count, vx = Var(x), vy = Var(y)](Gradients& g) {
    const Tensor dy = g.take(vy);
    if (!dy) return;
    const Slot dx = g.slot(vx);
    if (!dx.accumulate) s.zero(dx.gradient);
    s.cast_into(dy, s.slice(dx.gradient, first, count), true);
  });
  return y;
}

Tensor cast(Session& s, const Tensor& x, DType out) {
  for (DType type : {x->dtype, out})
    if (type > DType::f16) fail("E_DTYPE", "cast: expected types among f32, bf16 and f16, got %s", name_of(type));
  Tensor y = s.empty(x->shape, out, "cast");
  s.cast_into(x, y, false);
  if (s.tape().wants({x})) s.tape().record("cast", {y}, [vx = Var(x), vy = Var(y)](Gradients& g) { g.give(vx, g.take(vy)); });
  return y;
}

Tensor concat_rows(Session& s, const std::vector<Tensor>& parts) {
  int64_t rows = 0;
  bool wants = false;
  for (const Tensor& part : parts) {
    expect_float("concat_rows", "parts", part);
    expect_type("concat_rows", "parts", part, parts[0]->dtype);
    if (part->width() != parts[0]->width()) fail("E_SHAPE", "concat_rows: expected parts of width %lld, got %s", static_cast<long long>(parts[0]->width()), part->shape.text().c_str());
    rows += part->rows();
    wants = wants || s.tape().wants({part});
  }
  if (parts.empty()) fail("E_ARGUMENT", "concat_rows: expected at least one part, got none");
  const DType type = parts[0]->dtype;
  Tensor y = s.empty({rows, parts[0]->width()}, type, "concat_rows");
  char* to = y->data<char>();
  std::vector<Var> vars;
  for (const Tensor& part : parts) {
    const int64_t bytes = part->count() * static_cast<int64_t>(size_of(type));
    s.run("concat_rows", s.backend().copy, copy_args{bytes, part->data(), to});
    to += bytes;
    vars.emplace_back(part);
  }
  if (!wants) return y;
  s.tape().record("concat_rows", {y}, [&s, type, vars, vy = Var(y)](Gradients& g) {
    const Tensor dy = g.take(vy);
    if (!dy) return;
    const char* from = dy->data<char>();
    for (const Var& var : vars) {
      const Slot dx = g.slot(var);
      if (dx.gradient) s.run("concat_rows", s.backend().cast, cast_args{var.shape.count(), from, code(type), type_of(dx), dx.accumulate, dx.data()});
      from += var.shape.count() * static_cast<int64_t>(size_of(type));
    }
  });
  return y;
}

Tensor interpolate(Session& s, const Tensor& a, const Tensor& b, double t, DType out) {
  expect_shape("interpolate", "b", b, a->shape);
  for (DType type : {a->dtype, b->dtype, out})
    if (type > DType::f16) fail("E_DTYPE", "interpolate: expected types among f32, bf16 and f16, got %s", name_of(type));
  Tensor y = s.empty(a->shape, out, "interpolate");
  s.run("interpolate", s.backend().interpolate, interpolate_args{a->count(), a->data(), b->data(), code(a->dtype), code(b->dtype), code(out), static_cast<float>(t), y->data()});
  return y;
}

void copy_into(Session& s, const Tensor& from, const Tensor& to) {
  expect_type("copy", "target", to, from->dtype);
  expect_shape("copy", "target", to, from->shape);
  s.touched(to);
  s.run("copy", s.backend().copy, copy_args{from->count() * static_cast<int64_t>(size_of(from->dtype)), from->data(), to->data()});
}

}  // namespace cambium

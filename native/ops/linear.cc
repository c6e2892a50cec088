#include "ops/ops.h"
#include "ops/target.h"

namespace cambium {
namespace {

constexpr int64_t kMostRowsForPack = 512;  // more rows than this pay for packing the weight anew

void check(const Tensor& w, const LinearOptions& o, const Shape& shape, int64_t out) {
  expect_float("linear", "weight", w);
  if (o.activation < CB_ACT_NONE || o.activation > CB_ACT_GELU) fail("E_ARGUMENT", "linear: expected activation none, quick_gelu or gelu, got %d", o.activation);
  if (o.activation != CB_ACT_NONE && (o.residual || o.skip)) fail("E_ARGUMENT", "linear: expected no residual beside an activation, got one");
  if (o.bias) {
    expect_type("linear", "bias", o.bias, DType::f32);
    expect_shape("linear", "bias", o.bias, {out});
  }
  if (o.column_scale) {
    expect_type("linear", "column scale", o.column_scale, DType::f32);
    expect_shape("linear", "column scale", o.column_scale, {out});
  }
  if (o.gate) {
    expect_type("linear", "gate", o.gate, DType::f32);
    if (o.gate->count() != 1) fail("E_SHAPE", "linear: expected a gate of one element, got %s", o.gate->shape.text().c_str());
    if (!o.low_rank.empty() || o.column_scale) fail("E_ARGUMENT", "linear: expected no gate beside low-rank deltas or a column scale, got one");
  }
  for (const Tensor& t : {o.residual, o.skip}) {
    if (!t) continue;
    expect_float("linear", "residual", t);
    if (t->count() != shape.count()) fail("E_SHAPE", "linear: expected a residual of shape %s, got %s", shape.text().c_str(), t->shape.text().c_str());
  }
  if (o.out != DType::f32 && o.out != DType::bf16) fail("E_DTYPE", "linear: expected a result of type f32 or bf16, got %s", name_of(o.out));
}

// Sizes of a delta: T adapters (or none, without an index) of rank R over `out` columns.
struct DeltaSize {
  int64_t adapters, rank, out;
};

DeltaSize check_delta(const LowRankOptions& d, bool indexed, int64_t in, int64_t out) {
  for (const auto& [name, t] : {std::pair{"a", d.a}, {"b", d.b}, {"scale", d.scale}}) {
    if (!t) fail("E_ARGUMENT", "linear: expected a, b and scale of a low-rank delta, got no %s", name);
    expect_type("linear", name, t, DType::f32);
  }
  const int bank = indexed ? 1 : 0;
  if (d.a->shape.rank() != 2 + bank || d.b->shape.rank() != 2 + bank)
    fail("E_SHAPE", "linear: expected a and b of a low-rank delta with %d dimensions, got %s and %s", 2 + bank, d.a->shape.text().c_str(), d.b->shape.text().c_str());
  const DeltaSize n{indexed ? d.a->shape[0] : 1, d.a->shape[bank], d.b->shape[bank]};
  if (n.rank < 1 || n.adapters < 1 || d.a->width() != in) fail("E_SHAPE", "linear: expected a of a low-rank delta with %lld columns and rank 1 or more, got %s", static_cast<long long>(in), d.a->shape.text().c_str());
  if (d.b->width() != n.rank || (indexed && d.b->shape[0] != n.adapters) || d.column < 0 || d.column + n.out > out)
    fail("E_SHAPE", "linear: expected b of a low-rank delta of rank %lld with at most %lld rows from column %lld on, got %s", static_cast<long long>(n.rank), static_cast<long long>(out), static_cast<long long>(d.column), d.b->shape.text().c_str());
  if (d.scale->count() != n.adapters) fail("E_SHAPE", "linear: expected %lld scales of a low-rank delta, got %s", static_cast<long long>(n.adapters), d.scale->shape.text().c_str());
  if (d.bias) {
    expect_type("linear", "bias of a low-rank delta", d.bias, DType::f32);
    if (d.bias->count() != n.adapters * n.out) fail("E_SHAPE", "linear: expected %lld biases of a low-rank delta, got %s", static_cast<long long>(n.adapters * n.out), d.bias->shape.text().c_str());
  }
  return n;
}

const void* pointer(const Tensor& t) { return t ? t->data() : nullptr; }
const float* floats(const Tensor& t) { return static_cast<const float*>(pointer(t)); }

// What backward remembers of a delta.
struct DeltaVars {
  Var a, b, bias, x;
  Saved saved_a, saved_b, saved_bias, saved_scale, saved_x;
};

// Lists that queued kernels read from host memory. They travel with the kernels and may die on the stream's thread, so
// nothing in them owns a tensor.
template <class T>
using Shared = std::shared_ptr<std::vector<T>>;

// The deltas of one linear: their arguments and their place on the tape.
struct LinearDeltas {
  Shared<CbLowRank> args = std::make_shared<std::vector<CbLowRank>>();
  std::vector<DeltaVars> vars;
  int64_t columns = 0;                         // of between
  bool want = false, want_between = false;     // anything; a B or a bias
  bool want_x = false;                         // an A that reads linear's own x
};

LinearDeltas deltas_of(Session& s, const Tensor& x, const LinearOptions& o, int64_t out, linear_args& a) {
  LinearDeltas all;
  if (o.index && !o.offsets) fail("E_ARGUMENT", "linear: expected the offsets of the rows beside an index, got none");
  for (const LowRankOptions& d : o.low_rank) {
    const DeltaSize n = check_delta(d, o.index != nullptr, x->width(), out);
    if (a.adapters != 0 && n.adapters != a.adapters) fail("E_SHAPE", "linear: expected %lld adapters in every low-rank delta, got %lld", static_cast<long long>(a.adapters), static_cast<long long>(n.adapters));
    a.adapters = n.adapters;
    if (d.x) {
      expect_type("linear", "x of a low-rank delta", d.x, x->dtype);
      expect_shape("linear", "x of a low-rank delta", d.x, x->shape);
    }
    all.args->push_back({floats(d.a), floats(d.b), floats(d.bias), floats(d.scale), pointer(d.x), n.rank, d.column, n.out});
    all.columns += n.rank + (d.bias ? 1 : 0);
    const bool wants_b = s.tape().wants({d.b, d.bias}), wants_a = s.tape().wants({d.a});
    all.want |= wants_b || wants_a || s.tape().wants({d.x});
    all.want_between |= wants_b;
    all.want_x |= wants_a && !d.x;
    all.vars.push_back({d.a, d.b, d.bias, d.x, d.a, d.b, d.bias, d.scale, wants_a ? d.x : nullptr});
  }
  if (o.index) {
    expect_type("linear", "index", o.index, DType::i32);
    expect_type("linear", "offsets", o.offsets, DType::i32);
    if (o.offsets->count() != o.index->count() + 1) fail("E_SHAPE", "linear: expected %lld offsets beside the index, got %s", static_cast<long long>(o.index->count() + 1), o.offsets->shape.text().c_str());
    a.samples = o.index->count(), a.index = o.index->data<int32_t>(), a.offsets = o.offsets->data<int32_t>();
  }
  a.deltas = static_cast<int64_t>(all.args->size()), a.low_rank = all.args->data();
  if (a.deltas > 0 && a.in < 1) fail("E_SHAPE", "linear: expected x with columns beside low-rank deltas, got none");
  return all;
}

// Memory for the gradients of the deltas.
struct DeltaTargets {
  Shared<CbLowRankGrads> args = std::make_shared<std::vector<CbLowRankGrads>>();
  std::vector<Target> f32;
  bool any = false;

  DeltaTargets(Session& s, Gradients& g, const std::vector<DeltaVars>& vars) {
    f32.reserve(3 * vars.size());
    const auto target = [&](const Var& v) -> const Target& { return f32.emplace_back(s, g.slot(v), v.shape, DType::f32); };
    const auto data = [](const Target& t) { return static_cast<float*>(t.data()); };
    for (const DeltaVars& v : vars) {
      for (const Saved* saved : {&v.saved_a, &v.saved_b, &v.saved_bias, &v.saved_scale, &v.saved_x}) saved->get("linear");
      const Target &da = target(v.a), &db = target(v.b), &dbias = target(v.bias);
      const Slot dx = g.slot(v.x);
      args->push_back({data(da), data(db), data(dbias), dx.data(), da.accumulate(), db.accumulate(), dbias.accumulate(), type_of(dx), dx.accumulate});
      any |= da.tensor || db.tensor || dbias.tensor || dx.gradient;
    }
  }
};

// Everything that backward needs of a linear.
struct Record {
  linear_args a;
  Var x, w, bias, residual, skip, column_scale, y;
  bool skip_is_x;
  Saved saved_x, saved_w, saved_pre, saved_gate, saved_scale, saved_index, saved_offsets;
  Tensor product, between;
  std::shared_ptr<Storage> weight;
  LinearDeltas deltas;
};

void backward(Session& s, const Record& r, Gradients& g) {
  Tensor dy = g.take(r.y);
  if (!dy) return;
  linear_args f = r.a;
  f.y = nullptr, f.residual = f.skip = nullptr;
  for (const Saved* saved : {&r.saved_x, &r.saved_w, &r.saved_pre, &r.saved_gate, &r.saved_scale, &r.saved_index, &r.saved_offsets}) saved->get("linear");
  const Slot dx = g.slot(r.x), db = g.slot(r.bias);
  const Target dw(s, g.slot(r.w), r.w.shape, DType::f32), dscale(s, g.slot(r.column_scale), r.column_scale.shape, DType::f32);
  const DeltaTargets targets(s, g, r.deltas.vars);
  linear_grads b{};
  b.dy = dy->data(), b.dy_type = code(dy->dtype);
  b.dx = dx.data(), b.dx_type = type_of(dx), b.dx_accumulate = dx.accumulate, b.skip_is_x = r.skip_is_x;
  b.dw = static_cast<float*>(dw.data()), b.dw_accumulate = dw.accumulate();
  b.dbias = db.data<float>(), b.dbias_accumulate = db.accumulate;
  b.dcolumn_scale = static_cast<float*>(dscale.data()), b.dcolumn_scale_accumulate = dscale.accumulate();
  b.low_rank = targets.args->data();
  b.pre_is_free = 1;  // saved for this alone
  if (b.dx || b.dw || b.dbias || b.dcolumn_scale || targets.any) {
    s.stream().enqueue("linear", [entry = s.backend().linear_backward, f, b, deltas = r.deltas.args, list = targets.args](CbContext* context) {
      linear_grads bound = b;
      bound.f = &f;
      return entry(context, &bound);
    });
  }
  dw.merge(s), dscale.merge(s);
  for (const Target& t : targets.f32) t.merge(s);
  if (r.skip.wanted && r.residual.wanted) {
    Slot skip = g.slot(r.skip);
    s.cast_into(dy, skip.gradient, skip.accumulate);
  } else if (r.skip.wanted) {
    g.give(r.skip, std::move(dy));
    return;
  }
  g.give(r.residual, std::move(dy));
}

}  // namespace

Tensor linear(Session& s, const Tensor& x, const Tensor& w, const LinearOptions& o) {
  expect_float("linear", "x", x);
  if (!w || w->shape.rank() != 2) fail("E_SHAPE", "linear: expected a weight with 2 dimensions, got %s", w ? w->shape.text().c_str() : "none");
  const int64_t in = w->shape[o.transposed ? 0 : 1], out = w->shape[o.transposed ? 1 : 0];
  if (x->width() != in) fail("E_SHAPE", "linear: expected x with %lld columns, got %s", static_cast<long long>(in), x->shape.text().c_str());
  const Shape shape = x->shape.with_last(out);
  check(w, o, shape, out);

  linear_args a{};
  a.m = x->rows(), a.in = in, a.out = out;
  LinearDeltas deltas = deltas_of(s, x, o, out, a);
  const bool wants_product = deltas.want || s.tape().wants({x, w, o.bias, o.column_scale});
  const bool wants = wants_product || s.tape().wants({o.residual, o.skip});
  const bool wants_scale = s.tape().wants({o.column_scale});
  const auto made = [&](bool on, const Shape& as, DType type) { return on ? s.empty(as, type, "linear") : nullptr; };
  const Tensor y = s.empty(shape, o.out, "linear");
  const Tensor pre = made(o.activation != CB_ACT_NONE && wants_product, shape, x->dtype);
  const Tensor product = made(wants_scale, shape, x->dtype);
  const Tensor between = made(deltas.want_between, {a.m, deltas.columns}, DType::f32);
  a.x = x->data(), a.w = w->data(), a.x_type = code(x->dtype), a.w_type = code(w->dtype);
  a.transposed = o.transposed, a.act = o.activation;
  a.bias = floats(o.bias), a.gate = floats(o.gate), a.column_scale = floats(o.column_scale);
  a.residual = pointer(o.residual), a.skip = pointer(o.skip);
  a.residual_type = o.residual ? code(o.residual->dtype) : 0, a.skip_type = o.skip ? code(o.skip->dtype) : 0;
  a.w_version = w->storage->version;
  // Packing a weight on the way costs as much as a few rows of the product, and no memory between uses. So only where rows
  // are few or its owner asked for it, and nothing is kept for a backward, does a frozen weight keep the copy that the
  // product reads.
  const bool keep = a.m <= kMostRowsForPack || w->storage->keep_packed;
  if (!w->requires_grad && !s.tape().recording && keep) a.pack_forward = w->storage->pack(w->offset);
  a.y = y->data(), a.y_type = code(o.out);
  a.pre = pre ? pre->data() : nullptr, a.product = product ? product->data() : nullptr;
  a.between = between ? between->data<float>() : nullptr;
  s.stream().enqueue("linear", [entry = s.backend().linear_forward, a, list = deltas.args](CbContext* context) { return entry(context, &a); });
  if (!wants) return y;

  const bool wants_x = w->requires_grad || deltas.want_x, skip_is_x = o.skip == x && x->requires_grad;
  Record r{a, x, w, o.bias, o.residual, skip_is_x ? nullptr : o.skip, o.column_scale, y, skip_is_x, wants_x ? x : nullptr,
           x->requires_grad ? w : nullptr, pre, o.gate, o.column_scale, o.index, o.offsets, product, between, w->storage, std::move(deltas)};
  s.tape().record("linear", {y}, [&s, r = std::move(r)](Gradients& g) { backward(s, r, g); });
  return y;
}

}  // namespace cambium

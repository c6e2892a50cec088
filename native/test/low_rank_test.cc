// linear with low-rank deltas against naive products in double, at every level and over emulated tiles: ranks on both sides
// of a panel, adapters by sample, inputs of their own, biases, a column scale, sums in pieces.
#include "op_test.h"
#include "ops_test.h"

namespace cambium_test {
namespace {

struct Delta {
  int64_t rank, column, out;
  bool bias, own;
};
struct Case {
  std::vector<int32_t> rows;  // of each sample
  int64_t in, out;
  int32_t type;
  std::vector<Delta> deltas;
  std::vector<int32_t> index;  // empty: one adapter
  int64_t adapters;
  bool scaled;  // by columns
};

// The tensors of a delta and of its gradients.
struct DeltaTensors {
  Tensor a, b, bias, scale, x, da, db, dbias, dx;
};

DeltaTensors tensors_of(const Case& c, const Delta& d, int64_t m) {
  const int64_t t = c.adapters;
  const double spread = 1 / std::sqrt(double(c.in));
  DeltaTensors all{Tensor::random(t * d.rank * c.in, CB_F32, spread), Tensor::random(t * d.out * d.rank),
                   Tensor::random(t * d.out), Tensor::random(t), Tensor::random(m * c.in, c.type),
                   Tensor(t * d.rank * c.in), Tensor(t * d.out * d.rank), Tensor(t * d.out), Tensor(m * c.in)};
  // Values that operands hold exactly, so that only what the kernel computes on the way is rounded.
  for (Tensor* p : {&all.a, &all.b, &all.bias})
    for (int64_t i = 0; i < p->count(); ++i) p->set(i, round_to(c.type, p->at(i)));
  return all;
}

void run(const Case& c) {
  int64_t m = 0;
  std::vector<int32_t> offsets{0}, adapter;
  for (size_t s = 0; s < c.rows.size(); ++s) {
    adapter.insert(adapter.end(), size_t(c.rows[s]), c.index.empty() ? 0 : c.index[s]);
    offsets.push_back(int32_t(m += c.rows[s]));
  }
  const int64_t in = c.in, out = c.out;
  Tensor x = Tensor::random(m * in, c.type), w = Tensor::random(in * out, c.type, 1 / std::sqrt(in + 1.0)),
         scale = Tensor::random(out), y(m * out), product(m * out, c.type), dy = Tensor::random(m * out, c.type), dx(m * in),
         dscale(out);
  std::vector<DeltaTensors> tensors;
  std::vector<CbLowRank> list;
  std::vector<CbLowRankGrads> gradients;
  int64_t columns = 0;
  for (const Delta& d : c.deltas) tensors.push_back(tensors_of(c, d, m));
  for (size_t i = 0; i < c.deltas.size(); ++i) {
    const Delta& d = c.deltas[i];
    DeltaTensors& t = tensors[i];
    list.push_back({t.a.f32(), t.b.f32(), d.bias ? t.bias.f32() : nullptr, t.scale.f32(), d.own ? t.x.data() : nullptr,
                    d.rank, d.column, d.out});
    gradients.push_back({t.da.f32(), t.db.f32(), d.bias ? t.dbias.f32() : nullptr, d.own ? t.dx.data() : nullptr, 0, 0, 0,
                         CB_F32, 0});
    columns += d.rank + (d.bias ? 1 : 0);
  }
  Tensor between(m * columns);
  linear_args f{};
  f.m = m, f.in = in, f.out = out, f.x = x.data(), f.w = w.data(), f.x_type = c.type, f.w_type = c.type;
  f.column_scale = c.scaled ? scale.f32() : nullptr;
  f.deltas = int64_t(list.size()), f.adapters = c.adapters, f.low_rank = list.data();
  f.samples = int64_t(c.rows.size()), f.offsets = offsets.data(), f.index = c.index.empty() ? nullptr : c.index.data();
  f.y = y.data(), f.y_type = CB_F32, f.between = between.f32(), f.product = c.scaled ? product.data() : nullptr;

  Reference want = zeros(m * out), want_dx = zeros(m * in), want_dscale = zeros(out), dz = zeros(m * out);
  for (int64_t r = 0; r < m; ++r) {
    for (int64_t o = 0; o < out; ++o)
      for (int64_t i = 0; i < in; ++i) want[size_t(r * out + o)] += x.at(r * in + i) * w.at(o * in + i);
    for (int64_t o = 0; o < out; ++o) {
      dz[size_t(r * out + o)] = dy.at(r * out + o) * (c.scaled ? scale.at(o) : 1);
      for (int64_t i = 0; i < in; ++i) want_dx[size_t(r * in + i)] += dz[size_t(r * out + o)] * w.at(o * in + i);
    }
  }
  std::vector<Expected> results, back;
  std::vector<Reference> own;
  for (size_t n = 0; n < c.deltas.size(); ++n) {
    const Delta& d = c.deltas[n];
    DeltaTensors& t = tensors[n];
    Reference da = zeros(t.da.count()), db = zeros(t.db.count()), dbias = zeros(t.dbias.count()), own_dx = zeros(m * in);
    for (int64_t r = 0; r < m; ++r) {
      const int64_t id = adapter[size_t(r)];
      if (id < 0) continue;
      const Tensor& from = d.own ? t.x : x;
      Reference& to = d.own ? own_dx : want_dx;
      const double s = t.scale.at(id);
      for (int64_t k = 0; k < d.rank; ++k) {
        double low = 0, ds = 0;
        for (int64_t i = 0; i < in; ++i) low += from.at(r * in + i) * t.a.at((id * d.rank + k) * in + i);
        for (int64_t o = 0; o < d.out; ++o) {
          const double g = dz[size_t(r * out + d.column + o)], b = t.b.at((id * d.out + o) * d.rank + k);
          want[size_t(r * out + d.column + o)] += s * low * b;
          db[size_t((id * d.out + o) * d.rank + k)] += s * low * g;
          ds += s * g * b;
        }
        for (int64_t i = 0; i < in; ++i) {
          to[size_t(r * in + i)] += ds * t.a.at((id * d.rank + k) * in + i);
          da[size_t((id * d.rank + k) * in + i)] += ds * from.at(r * in + i);
        }
      }
      for (int64_t o = 0; d.bias && o < d.out; ++o) {
        want[size_t(r * out + d.column + o)] += s * t.bias.at(id * d.out + o);
        dbias[size_t(id * d.out + o)] += s * dz[size_t(r * out + d.column + o)];
      }
    }
    const double tolerance = c.type == CB_F32 ? 3e-6 : 4e-3;
    back.push_back({"da", &t.da, da, tolerance});
    back.push_back({"db", &t.db, db, tolerance});
    if (d.bias) back.push_back({"dbias", &t.dbias, dbias, tolerance});
    if (d.own) back.push_back({"dx of its own", &t.dx, own_dx, tolerance});
  }
  for (int64_t i = 0; i < m * out; ++i) {
    want_dscale[size_t(i % out)] += dy.at(i) * want[size_t(i)];
    if (c.scaled) want[size_t(i)] *= scale.at(i % out);
  }
  const double tolerance = c.type == CB_F32 ? 3e-6 : 3e-3;
  const std::string name = "low rank " + std::to_string(m) + "x" + std::to_string(in) + "x" + std::to_string(out) + " " +
                           type_name(c.type) + " of " + std::to_string(c.adapters);
  check(name, {{"y", &y, want, tolerance}}, [&](CbContext* context) { return backend().linear_forward(context, &f); });
  linear_grads g{};
  g.f = &f, g.dy = dy.data(), g.dy_type = c.type, g.dx = dx.data(), g.dx_type = CB_F32, g.low_rank = gradients.data();
  g.dcolumn_scale = c.scaled ? dscale.f32() : nullptr;
  back.push_back({"dx", &dx, want_dx, tolerance});
  if (c.scaled) back.push_back({"dcolumn_scale", &dscale, want_dscale, c.type == CB_F32 ? 3e-6 : 4e-3});
  check(name + " backward", back, [&](CbContext* context) { return backend().linear_backward(context, &g); });
  g.dx = nullptr;  // what nobody wants is not needed by the others
  back.erase(back.begin() + std::ptrdiff_t(back.size()) - (c.scaled ? 2 : 1));
  check(name + " without dx", back, [&](CbContext* context) { return backend().linear_backward(context, &g); });
}

void refused() {
  Tensor x = Tensor::random(6 * 8), w = Tensor::random(5 * 8), a = Tensor::random(2 * 8), b = Tensor::random(5 * 2),
         scale = Tensor::random(1), y(6 * 5);
  const CbLowRank delta{a.f32(), b.f32(), nullptr, scale.f32(), nullptr, 2, 0, 5};
  linear_args f{};
  f.m = 6, f.in = 8, f.out = 5, f.x = x.data(), f.w = w.data(), f.y = y.data();
  f.deltas = 1, f.adapters = 1, f.low_rank = &delta, f.samples = 2;
  const auto refuse = [&](const std::vector<int32_t>& index, const std::vector<int32_t>& offsets, const char* text) {
    f.index = index.data(), f.offsets = offsets.data();
    check_error("low rank", CB_INDEX, text, [&](CbContext* context) { return backend().linear_forward(context, &f); });
  };
  refuse({0, 1}, {0, 3, 6}, "adapters from -1 to 0, got 1");
  refuse({-2, 0}, {0, 3, 6}, "adapters from -1 to 0, got -2");
  refuse({0, 0}, {1, 3, 6}, "offsets from 0");
  refuse({0, 0}, {0, 3, 5}, "offsets up to 6, got 5");
  refuse({0, 0}, {0, 7, 6}, "offsets rising to 6, got 7");
}

}  // namespace

void low_rank_tests() {
  for (const int32_t type : {CB_F32, CB_BF16}) {
    run({{70}, 50, 45, type, {{3, 0, 45, false, false}}, {}, 1, false});
    run({{33}, 40, 96, type, {{8, 0, 32, true, false}, {30, 64, 32, false, false}}, {}, 1, true});
    run({{41}, 24, 30, type, {{5, 3, 20, true, true}, {2, 0, 30, false, false}}, {}, 1, false});
    run({{17, 40, 1, 9, 20}, 36, 50, type, {{4, 0, 25, false, false}, {7, 25, 25, true, false}}, {2, 0, -1, 4, 2}, 5, false});
    run({{5, 6, 30}, 20, 33, type, {{4, 0, 33, true, true}}, {1, -1, 0}, 2, true});
    run({{19}, 4200, 10, type, {{3, 2, 6, true, false}}, {}, 1, false});
    run({{4, 5}, 30, 4200, type, {{3, 4000, 90, false, false}}, {1, 0}, 2, false});
  }
  refused();
}

}  // namespace cambium_test

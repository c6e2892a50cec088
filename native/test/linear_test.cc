// linear against a naive product in double: shapes, types, orientations, activations, gates, residuals, accumulation.
#include "op_test.h"
#include "ops_test.h"

namespace cambium_test {
namespace {

struct Case {
  int64_t m, in, out;
  int32_t x_type, w_type, transposed, act;
  double gate;  // NAN: no gate
  bool bias, residual, skip, accumulate, skip_is_x, packs;
};

double activate(int32_t act, double x) {
  if (act == CB_ACT_QUICK_GELU) return x / (1 + std::exp(-1.702 * x));
  return act == CB_ACT_GELU ? 0.5 * x * std::erfc(-x / std::sqrt(2.0)) : x;
}
double derivative(int32_t act, double x) {
  if (act == CB_ACT_QUICK_GELU) {
    const double s = 1 / (1 + std::exp(-1.702 * x));
    return s + 1.702 * x * s * (1 - s);
  }
  if (act == CB_ACT_GELU)
    return 0.5 * std::erfc(-x / std::sqrt(2.0)) + x * std::exp(-0.5 * x * x) / std::sqrt(2 * M_PI);
  return 1;
}

void run(const Case& c) {
  const std::string name = "linear " + std::to_string(c.m) + "x" + std::to_string(c.in) + "x" + std::to_string(c.out) +
                           " " + type_name(c.x_type) + "/" + type_name(c.w_type) + (c.transposed ? " transposed" : "") +
                           " act " + std::to_string(c.act) + " gate " + std::to_string(c.gate);
  const int64_t m = c.m, in = c.in, out = c.out;
  Tensor x = Tensor::random(m * in, c.x_type), w = Tensor::random(in * out, c.w_type, 1 / std::sqrt(in + 1.0));
  Tensor bias = Tensor::random(out), gate(1), residual = Tensor::random(m * out),
         skip = Tensor::random(m * out, c.x_type);
  gate.set(0, c.gate);
  CbPack forward{}, backward{};
  Tensor y(m * out, c.x_type), pre(m * out, c.x_type);
  linear_args f{};
  f.m = m, f.in = in, f.out = out, f.x = x.data(), f.w = w.data(), f.x_type = c.x_type, f.w_type = c.w_type;
  f.transposed = c.transposed, f.act = c.act, f.bias = c.bias ? bias.f32() : nullptr;
  f.gate = std::isnan(c.gate) ? nullptr : gate.f32();
  if (c.residual) f.residual = residual.data(), f.residual_type = CB_F32;
  if (c.skip) f.skip = skip.data(), f.skip_type = c.x_type;
  f.w_version = 1;
  if (c.packs) f.pack_forward = &forward, f.pack_backward = &backward;
  f.y = y.data(), f.y_type = c.x_type;
  if (c.act) f.pre = pre.data();

  const double g = std::isnan(c.gate) ? 1 : round_to(CB_F32, c.gate);
  const auto operand = [&](const Tensor& t, int64_t i) { return round_to(c.x_type, t.at(i)); };
  const auto weight = [&](int64_t o, int64_t i) { return operand(w, c.transposed ? i * out + o : o * in + i); };
  Reference want_y = zeros(m * out), want_pre = zeros(m * out);
  for (int64_t r = 0; r < m; ++r) {
    for (int64_t o = 0; o < out; ++o) {
      double t = 0;
      for (int64_t i = 0; i < in; ++i) t += operand(x, r * in + i) * weight(o, i);
      t = g * t + (c.bias ? bias.at(o) : 0);
      want_pre[size_t(r * out + o)] = t;
      want_y[size_t(r * out + o)] =
          activate(c.act, t) + (c.residual ? residual.at(r * out + o) : 0) + (c.skip ? skip.at(r * out + o) : 0);
    }
  }
  std::vector<Expected> results{{"y", &y, want_y, tolerance_of(c.x_type)}};
  if (c.act) results.push_back({"pre", &pre, want_pre, tolerance_of(c.x_type)});
  check(name, results, [&](CbContext* context) { return backend().linear_forward(context, &f); });

  const int32_t dy_type = c.act ? c.x_type : CB_F32;
  Tensor dy = Tensor::random(m * out, dy_type), dx = Tensor::random(m * in), dw = Tensor::random(in * out),
         dbias = Tensor::random(out);
  linear_grads b{};
  b.f = &f, b.dy = dy.data(), b.dy_type = dy_type, b.dx = dx.data(), b.dx_type = CB_F32, b.dx_accumulate = c.accumulate;
  b.skip_is_x = c.skip_is_x, b.dw = dw.f32(), b.dw_accumulate = c.accumulate, b.dbias = dbias.f32();
  b.dbias_accumulate = c.accumulate;
  Reference want_dx = zeros(m * in), want_dw = zeros(in * out), want_dbias = zeros(out), dpre = zeros(m * out);
  if (c.accumulate) want_dx = values(dx), want_dw = values(dw), want_dbias = values(dbias);
  for (int64_t i = 0; i < m * out; ++i) {
    const double exact = dy.at(i) * (c.act ? derivative(c.act, pre.at(i)) : 1);
    want_dbias[size_t(i % out)] += exact;
    dpre[size_t(i)] = round_to(c.x_type, exact);
  }
  for (int64_t r = 0; r < m; ++r) {
    for (int64_t i = 0; i < in; ++i) {
      double t = 0;
      for (int64_t o = 0; o < out; ++o) {
        t += dpre[size_t(r * out + o)] * weight(o, i);
        want_dw[size_t(c.transposed ? i * out + o : o * in + i)] +=
            g * dpre[size_t(r * out + o)] * operand(x, r * in + i);
      }
      want_dx[size_t(r * in + i)] += g * t + (c.skip_is_x ? dy.at(r * in + i) : 0);
    }
  }
  // bf16 with an activation: dpre may round to the other neighbour
  const double tolerance = c.act && c.x_type == CB_BF16 ? 4e-4 : 3e-6;
  check(name + " backward",
        {{"dx", &dx, want_dx, tolerance}, {"dw", &dw, want_dw, tolerance}, {"dbias", &dbias, want_dbias, 3e-6}},
        [&](CbContext* context) { return backend().linear_backward(context, &b); });
  for (CbPack* pack : {&forward, &backward}) {
    if (pack->release != nullptr) pack->release(pack->data);
  }
}

}  // namespace

void linear_tests() {
  const double none = NAN;
  for (const int32_t type : {CB_F32, CB_BF16}) {
    for (const int32_t transposed : {0, 1}) {
      run({37, 50, 29, type, CB_F32, transposed, CB_ACT_NONE, none, true, true, false, false, false, true});
      run({37, 50, 29, type, type, transposed, CB_ACT_QUICK_GELU, none, true, false, false, true, false, true});
      run({65, 33, 70, type, CB_F32, transposed, CB_ACT_GELU, 0.5, true, false, false, false, false, false});
      run({130, 40, 40, type, CB_F32, transposed, CB_ACT_NONE, 1.25, false, true, true, true, true, true});
      run({130, 40, 40, type, CB_F32, transposed, CB_ACT_NONE, 0.0, true, true, true, true, true, true});
      run({9, 24, 24, type, CB_F32, transposed, CB_ACT_NONE, 0.0, false, false, false, false, true, false});
      run({9, 24, 20, type, CB_F32, transposed, CB_ACT_QUICK_GELU, 0.0, true, false, false, false, false, true});
      run({1, 300, 1, type, CB_F32, transposed, CB_ACT_NONE, none, true, false, false, false, false, true});
      run({300, 4, 64, type, CB_F32, transposed, CB_ACT_NONE, none, false, true, false, false, false, true});
      run({300, 64, 4, type, CB_F32, transposed, CB_ACT_NONE, none, false, false, false, true, false, true});
    }
  }
  run({0, 8, 8, CB_F32, CB_F32, 0, CB_ACT_NONE, none, true, false, false, false, false, true});
}

}  // namespace cambium_test

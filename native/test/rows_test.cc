// Ops that work row by row or move rows: layer_norm, l2_normalize, gather_rows, scale_rows, token_embed, class_tokens,
// patchify. References in double.
#include "op_test.h"
#include "ops_test.h"

namespace cambium_test {
namespace {

void layer_norm_case(int64_t m, int64_t d, int32_t x_type, int32_t y_type, bool bias, bool accumulate) {
  const std::string name =
      "layer_norm " + std::to_string(m) + "x" + std::to_string(d) + " " + type_name(x_type) + " " + type_name(y_type);
  Tensor x = Tensor::random(m * d, x_type, 2), weight = Tensor::random(d), shift = Tensor::random(d), y(m * d, y_type),
         normalized(m * d, y_type), rstd(m);
  for (int64_t i = 0; i < m * d; ++i) x.set(i, x.at(i) + 3);
  layer_norm_args f{m,     d,        x.data(), x_type,     weight.f32(), bias ? shift.f32() : nullptr,
                    1e-5f, y.data(), y_type,   normalized.data(), rstd.f32()};
  Tensor dy = Tensor::random(m * d, y_type), dx = Tensor::random(m * d), dweight = Tensor::random(d),
         dbias = Tensor::random(d);
  Reference want = zeros(m * d), want_normalized = zeros(m * d), want_rstd = zeros(m), want_dx = zeros(m * d), want_dw = zeros(d),
            want_db = zeros(d);
  if (accumulate) want_dx = values(dx), want_dw = values(dweight), want_db = values(dbias);
  for (int64_t r = 0; r < m; ++r) {
    double mu = 0, var = 0, sum_g = 0, sum_gx = 0;
    for (int64_t i = 0; i < d; ++i) mu += x.at(r * d + i) / double(d);
    for (int64_t i = 0; i < d; ++i) var += std::pow(x.at(r * d + i) - mu, 2) / double(d);
    const double inverse = 1 / std::sqrt(var + double(f.eps));
    const auto xhat = [&](int64_t i) { return (x.at(r * d + i) - mu) * inverse; };
    want_rstd[size_t(r)] = inverse;
    for (int64_t i = 0; i < d; ++i) {
      want_normalized[size_t(r * d + i)] = xhat(i);
      want[size_t(r * d + i)] = xhat(i) * weight.at(i) + (bias ? shift.at(i) : 0);
      sum_g += dy.at(r * d + i) * weight.at(i) / double(d);
      sum_gx += dy.at(r * d + i) * weight.at(i) * xhat(i) / double(d);
      want_dw[size_t(i)] += dy.at(r * d + i) * round_to(y_type, xhat(i));  // it reads x̂ as it was rounded
      want_db[size_t(i)] += dy.at(r * d + i);
    }
    for (int64_t i = 0; i < d; ++i) {
      want_dx[size_t(r * d + i)] += inverse * (dy.at(r * d + i) * weight.at(i) - sum_g - xhat(i) * sum_gx);
    }
  }
  check(name,
        {{"y", &y, want, tolerance_of(y_type)}, {"normalized", &normalized, want_normalized, tolerance_of(y_type)}, {"rstd", &rstd, want_rstd, 1e-6}},
        [&](CbContext* c) { return backend().layer_norm_forward(c, &f); });
  const double saved = tolerance_of(y_type, 3e-6, 2e-3);
  const double summed = tolerance_of(y_type, 3e-6, 3e-4);  // an x̂ in the middle of two bf16 may go the other way
  layer_norm_grads g{&f,         dy.data(),     dx.data(),  CB_F32,
                     accumulate, dweight.f32(), dbias.f32(), accumulate, accumulate};
  check(name + " backward",
        {{"dx", &dx, want_dx, saved}, {"dweight", &dweight, want_dw, summed}, {"dbias", &dbias, want_db, 3e-6}},
        [&](CbContext* c) { return backend().layer_norm_backward(c, &g); });
  Tensor alone(m * d);
  if (accumulate) return;
  g.dx = alone.data(), g.dweight = g.dbias = nullptr;
  check(name + " dx alone", {{"dx", &alone, want_dx, saved}},
        [&](CbContext* c) { return backend().layer_norm_backward(c, &g); });
}

void l2_normalize_case(int64_t m, int64_t d) {
  Tensor x = Tensor::random(m * d), y(m * d), inverse(m), dy = Tensor::random(m * d), dx = Tensor::random(m * d);
  for (int64_t i = 0; i < d; ++i) x.set(i, 0);  // a zero row: y = 0, dx = dy / 1e-12
  for (int64_t i = 0; i < d; ++i) dy.set(i, dy.at(i) * 1e-12);
  l2_normalize_args f{m, d, x.f32(), y.f32(), inverse.f32()};
  Reference want = zeros(m * d), want_dx = values(dx), want_inverse = zeros(m);
  for (int64_t r = 0; r < m; ++r) {
    double norm = 0, along = 0;
    for (int64_t i = 0; i < d; ++i) norm += std::pow(x.at(r * d + i), 2);
    norm = std::max(std::sqrt(norm), 1e-12);
    want_inverse[size_t(r)] = 1 / norm;
    for (int64_t i = 0; i < d; ++i) along += x.at(r * d + i) / norm * dy.at(r * d + i);
    for (int64_t i = 0; i < d; ++i) {
      want[size_t(r * d + i)] = x.at(r * d + i) / norm;
      want_dx[size_t(r * d + i)] += (dy.at(r * d + i) - along * x.at(r * d + i) / norm) / norm;
    }
  }
  check("l2_normalize", {{"y", &y, want, 1e-6}, {"inverse", &inverse, want_inverse, 1e-6}},
        [&](CbContext* c) { return backend().l2_normalize_forward(c, &f); });
  l2_normalize_grads g{&f, dy.f32(), dx.f32(), 1};
  check("l2_normalize backward", {{"dx", &dx, want_dx, 1e-6}},
        [&](CbContext* c) { return backend().l2_normalize_backward(c, &g); });
}

void gather_rows_case(int32_t type, bool accumulate) {
  const int64_t m = 23, rows = 9, d = 131;
  std::vector<int32_t> index(size_t(m), 0);
  for (auto& i : index) i = int32_t(generator()() % rows);
  Tensor x = Tensor::random(rows * d, type), y(m * d, type), dy = Tensor::random(m * d, type),
         dx = Tensor::random(rows * d);
  gather_rows_args f{m, rows, d, x.data(), type, index.data(), y.data()};
  Reference want = zeros(m * d), want_dx = zeros(rows * d);
  if (accumulate) want_dx = values(dx);
  for (int64_t i = 0; i < m * d; ++i) {
    want[size_t(i)] = x.at(index[size_t(i / d)] * d + i % d);
    want_dx[size_t(index[size_t(i / d)] * d + i % d)] += dy.at(i);
  }
  check("gather_rows", {{"y", &y, want, 0}}, [&](CbContext* c) { return backend().gather_rows_forward(c, &f); });
  gather_rows_grads g{&f, dy.data(), dx.data(), CB_F32, accumulate};
  check("gather_rows backward", {{"dx", &dx, want_dx, 1e-6}},
        [&](CbContext* c) { return backend().gather_rows_backward(c, &g); });
  index[3] = 9;
  check_error("gather_rows", CB_INDEX, "expected values in [0, 9), got 9 at 3",
              [&](CbContext* c) { return backend().gather_rows_forward(c, &f); });
}

void scale_rows_case(int32_t type, int64_t factors, int64_t repeat) {
  const int64_t m = 24, d = 37;
  Tensor x = Tensor::random(m * d, type), factor = Tensor::random(factors), y(m * d, type),
         dy = Tensor::random(m * d, type);
  Tensor dx = Tensor::random(m * d, type);
  factor.set(0, 0);
  scale_rows_args f{m, d, factors, repeat, x.data(), type, factor.f32(), y.data()};
  Reference want = zeros(m * d), want_dx = values(dx);
  for (int64_t i = 0; i < m * d; ++i) {
    want[size_t(i)] = x.at(i) * factor.at(i / d / repeat % factors);
    want_dx[size_t(i)] += dy.at(i) * factor.at(i / d / repeat % factors);
  }
  check("scale_rows", {{"y", &y, want, tolerance_of(type)}},
        [&](CbContext* c) { return backend().scale_rows_forward(c, &f); });
  scale_rows_grads g{&f, dy.data(), dx.data(), 1};
  check("scale_rows backward", {{"dx", &dx, want_dx, tolerance_of(type)}},
        [&](CbContext* c) { return backend().scale_rows_backward(c, &g); });
}

void token_embed_case(int32_t type, bool accumulate) {
  const int64_t m = 31, d = 70, vocabulary = 50, length = 11;
  std::vector<int32_t> ids(size_t(m), 0), positions(size_t(m), 0);
  for (int64_t i = 0; i < m; ++i)
    ids[size_t(i)] = int32_t(generator()() % 20), positions[size_t(i)] = int32_t(i % length);
  Tensor table = Tensor::random(vocabulary * d, type), position = Tensor::random(length * d), y(m * d),
         dy = Tensor::random(m * d);
  Tensor dtable = Tensor::random(vocabulary * d), dposition = Tensor::random(length * d);
  token_embed_args f{m,      d, vocabulary, length, ids.data(), positions.data(), table.data(), type, position.f32(),
                     y.f32()};
  Reference want = zeros(m * d), want_table = zeros(vocabulary * d), want_position = zeros(length * d);
  if (accumulate) want_table = values(dtable), want_position = values(dposition);
  for (int64_t i = 0; i < m * d; ++i) {
    const int64_t word = ids[size_t(i / d)] * d + i % d, place = positions[size_t(i / d)] * d + i % d;
    want[size_t(i)] = table.at(word) + position.at(place);
    want_table[size_t(word)] += dy.at(i);
    want_position[size_t(place)] += dy.at(i);
  }
  check("token_embed", {{"y", &y, want, 1e-6}}, [&](CbContext* c) { return backend().token_embed_forward(c, &f); });
  token_embed_grads g{&f, dy.f32(), dtable.f32(), dposition.f32(), accumulate, accumulate};
  check("token_embed backward", {{"dtable", &dtable, want_table, 1e-6}, {"dposition", &dposition, want_position, 1e-6}},
        [&](CbContext* c) { return backend().token_embed_backward(c, &g); });
  ids[2] = -1;
  check_error("token_embed", CB_INDEX, "ids: expected values in [0, 50), got -1 at 2",
              [&](CbContext* c) { return backend().token_embed_forward(c, &f); });
}

void class_tokens_case(int32_t type, bool accumulate) {
  const int64_t batch = 3, n = 5, d = 41;
  Tensor x = Tensor::random(batch * n * d, type), cls = Tensor::random(d), position = Tensor::random((n + 1) * d),
         y(batch * (n + 1) * d);
  Tensor dy = Tensor::random(batch * (n + 1) * d), dx = Tensor::random(batch * n * d, type), dcls = Tensor::random(d),
         dposition = Tensor::random((n + 1) * d);
  class_tokens_args f{batch, n, d, x.data(), type, cls.f32(), position.f32(), y.f32()};
  Reference want = zeros(batch * (n + 1) * d), want_dx = zeros(batch * n * d), want_cls = zeros(d),
            want_position = zeros((n + 1) * d);
  if (accumulate) want_dx = values(dx), want_cls = values(dcls), want_position = values(dposition);
  for (int64_t i = 0; i < y.count(); ++i) {
    const int64_t b = i / d / (n + 1), token = i / d % (n + 1), column = i % d;
    const int64_t from = (b * n + token - 1) * d + column;
    want[size_t(i)] = position.at(token * d + column) + (token == 0 ? cls.at(column) : x.at(from));
    want_position[size_t(token * d + column)] += dy.at(i);
    if (token == 0)
      want_cls[size_t(column)] += dy.at(i);
    else
      want_dx[size_t(from)] += dy.at(i);
  }
  check("class_tokens", {{"y", &y, want, 1e-6}}, [&](CbContext* c) { return backend().class_tokens_forward(c, &f); });
  class_tokens_grads g{&f, dy.f32(), dx.data(), type, accumulate, dcls.f32(), dposition.f32(), accumulate, accumulate};
  check("class_tokens backward",
        {{"dx", &dx, want_dx, tolerance_of(type)},
         {"dcls", &dcls, want_cls, 1e-6},
         {"dposition", &dposition, want_position, 1e-6}},
        [&](CbContext* c) { return backend().class_tokens_backward(c, &g); });
}

void patchify_case(int32_t type, int64_t height, int64_t width, bool accumulate) {
  const int64_t batch = 2, channels = 3, p = 5, across = width / p, down = height / p;
  Tensor pixels = Tensor::random(batch * channels * height * width), y(batch * down * across * channels * p * p, type);
  Tensor dy = Tensor::random(y.count(), type), dx = Tensor::random(pixels.count());
  patchify_args f{batch, channels, height, width, p, pixels.f32(), y.data(), type};
  Reference want = zeros(y.count()), want_dx = zeros(dx.count());
  if (accumulate) want_dx = values(dx);
  for (int64_t i = 0; i < y.count(); ++i) {
    const int64_t column = i % p, line = i / p % p, channel = i / p / p % channels, patch = i / (channels * p * p);
    const int64_t b = patch / (down * across), h = patch / across % down * p + line, w = patch % across * p + column;
    const int64_t from = ((b * channels + channel) * height + h) * width + w;
    want[size_t(i)] = pixels.at(from);
    want_dx[size_t(from)] += dy.at(i);
  }
  check("patchify", {{"y", &y, want, tolerance_of(type, 0)}},
        [&](CbContext* c) { return backend().patchify_forward(c, &f); });
  patchify_grads g{&f, dy.data(), dx.f32(), accumulate};
  check("patchify backward", {{"dx", &dx, want_dx, 1e-6}},
        [&](CbContext* c) { return backend().patchify_backward(c, &g); });
}

}  // namespace

void rows_tests() {
  for (const int32_t x : {CB_F32, CB_BF16}) {
    for (const int32_t y : {CB_F32, CB_BF16}) {
      layer_norm_case(70, 101, x, y, true, true);
      layer_norm_case(5, 768, x, y, false, false);
    }
  }
  layer_norm_case(200, 17, CB_F32, CB_F32, true, true);
  layer_norm_case(0, 16, CB_F32, CB_F32, true, true);
  l2_normalize_case(40, 45);
  for (const int32_t type : {CB_F32, CB_BF16}) {
    for (const bool accumulate : {false, true}) {
      gather_rows_case(type, accumulate);
      token_embed_case(type, accumulate);
      class_tokens_case(type, accumulate);
      patchify_case(type, 20, 15, accumulate);
      patchify_case(type, 23, 17, accumulate);
    }
    scale_rows_case(type, 6, 4);
    scale_rows_case(type, 5, 1);
  }
}

}  // namespace cambium_test

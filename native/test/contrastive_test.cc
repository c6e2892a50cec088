// contrastive against its definition in double, with the gradient written from ỹ and two softmaxes.
#include "op_test.h"
#include "ops_test.h"

namespace cambium_test {
namespace {

struct Options {
  double scale;
  bool log_scale;
  double margin, epsilon;
  int labels;  // number of different labels
};

void run(int64_t n, int64_t p, const Options& o) {
  const std::string name =
      "contrastive " + std::to_string(n) + "x" + std::to_string(p) + " labels " + std::to_string(o.labels);
  Tensor image = Tensor::random(n * p, CB_F32, 1 / std::sqrt(double(p))),
         text = Tensor::random(n * p, CB_F32, 1 / std::sqrt(double(p)));
  Tensor scale(1), row_lse(n), column_lse(n), loss(1);
  scale.set(0, o.scale);
  std::vector<int32_t> labels(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i)
    labels[size_t(i)] = int32_t(o.labels < n ? i * i % o.labels : i);  // fewer: of unlike sizes
  contrastive_args f{};
  f.n = n, f.p = p, f.image = image.f32(), f.text = text.f32(), f.labels = labels.data(), f.scale = scale.f32();
  f.log_scale = o.log_scale, f.margin = float(o.margin), f.epsilon = float(o.epsilon);
  f.row_lse = row_lse.f32(), f.column_lse = column_lse.f32(), f.loss = loss.f32();

  const double s = o.log_scale ? std::exp(scale.at(0)) : scale.at(0);
  Reference cosine = zeros(n * n), rows = zeros(n), columns = zeros(n), target = zeros(n * n);
  const auto same = [&](int64_t i, int64_t j) { return labels[size_t(i)] == labels[size_t(j)]; };
  for (int64_t i = 0; i < n; ++i) {
    double positives = 0;
    for (int64_t j = 0; j < n; ++j) positives += same(i, j);
    const double epsilon = positives == double(n) ? 0 : double(f.epsilon);
    for (int64_t j = 0; j < n; ++j) {
      double dot = same(i, j) ? 0 : double(f.margin);
      for (int64_t k = 0; k < p; ++k) dot += image.at(i * p + k) * text.at(j * p + k);
      cosine[size_t(i * n + j)] = dot;
      target[size_t(i * n + j)] = same(i, j) ? (1 - epsilon) / positives : epsilon / (double(n) - positives);
    }
  }
  for (int64_t i = 0; i < n; ++i) {
    const double shift = s * cosine[size_t(i * n + i)];  // one pair: its loss is zero, and not what rounding leaves
    double row = 0, column = 0;
    for (int64_t j = 0; j < n; ++j) {
      row += std::exp(s * cosine[size_t(i * n + j)] - shift);
      column += std::exp(s * cosine[size_t(j * n + i)] - shift);
    }
    rows[size_t(i)] = shift + std::log(row), columns[size_t(i)] = shift + std::log(column);
  }
  Reference weight = zeros(n);  // of a column: the sum of its targets
  for (int64_t i = 0; i < n * n; ++i) weight[size_t(i % n)] += target[size_t(i)];
  const double dy_value = 0.75;
  double want_loss = 0, want_scale = 0;
  Tensor dy(1), dimage = Tensor::random(n * p), dtext = Tensor::random(n * p), dscale(1);
  dy.set(0, dy_value), dscale.set(0, 0.5);
  Reference want_image = values(dimage), want_text = values(dtext);
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      const double z = s * cosine[size_t(i * n + j)], wanted = target[size_t(i * n + j)];
      want_loss += wanted * (rows[size_t(i)] - z + columns[size_t(j)] - z) / (2 * double(n));
      const double dz =
          dy_value / (2 * double(n)) *
          (std::exp(z - rows[size_t(i)]) + weight[size_t(j)] * std::exp(z - columns[size_t(j)]) - 2 * wanted);
      want_scale += dz * cosine[size_t(i * n + j)] * (o.log_scale ? s : 1);
      for (int64_t k = 0; k < p; ++k) {
        want_image[size_t(i * p + k)] += s * dz * text.at(j * p + k);
        want_text[size_t(j * p + k)] += s * dz * image.at(i * p + k);
      }
    }
  }
  check(name,
        {{"loss", &loss, {want_loss}, 1e-5},
         {"row_lse", &row_lse, rows, 1e-6},
         {"column_lse", &column_lse, columns, 1e-6}},
        [&](CbContext* c) { return backend().contrastive_forward(c, &f); });
  contrastive_grads g{&f, dy.f32(), dimage.f32(), dtext.f32(), dscale.f32(), 1, 1, 1};
  check(name + " backward",
        {{"dimage", &dimage, want_image, 3e-5},
         {"dtext", &dtext, want_text, 3e-5},
         {"dscale", &dscale, {0.5 + want_scale}, 1e-5}},
        [&](CbContext* c) { return backend().contrastive_backward(c, &g); });
}

}  // namespace

void contrastive_tests() {
  run(70, 33, {100, false, 0.05, 0.02, 9});
  run(70, 33, {std::log(50.0), true, 0, 0, 70});
  run(600, 8, {20, false, 0.3, 0.1, 600});
  run(1100, 3, {20, false, 0.05, 0.02, 40});  // more than one strip
  run(13, 21, {30, false, 0.05, 0.02, 1});
  run(1, 5, {10, false, 0.05, 0.02, 1});
  run(9, 5, {0, false, 0.05, 0.02, 3});
}

}  // namespace cambium_test

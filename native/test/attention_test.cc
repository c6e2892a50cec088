// attention against softmax(q kᵀ / √K) v written out in double, forward and backward, with ragged lengths.
#include <algorithm>

#include "op_test.h"
#include "ops_test.h"

namespace cambium_test {
namespace {

struct Sizes {
  std::vector<int32_t> lengths;
  int64_t heads, width;
  bool causal;
};

// One query row of one head in double: probabilities over the keys of its sample.
Reference row_weights(const Reference& qkv, int64_t d, int64_t row, int64_t begin, int64_t end, int64_t column,
                      int64_t width, double* lse) {
  Reference p = zeros(end - begin);
  double top = -HUGE_VAL, total = 0;
  for (int64_t j = begin; j < end; ++j) {
    double score = 0;
    for (int64_t i = 0; i < width; ++i) {
      score += qkv[size_t(row * 3 * d + column + i)] * qkv[size_t(j * 3 * d + d + column + i)];
    }
    p[size_t(j - begin)] = score / std::sqrt(double(width));
    top = std::max(top, p[size_t(j - begin)]);
  }
  for (double& value : p) total += value = std::exp(value - top);
  for (double& value : p) value /= total;
  *lse = top + std::log(total);
  return p;
}

void run(const Sizes& s, int32_t type) {
  std::vector<int32_t> offsets{0};
  for (const int32_t length : s.lengths) offsets.push_back(offsets.back() + length);
  const int64_t m = offsets.back(), d = s.heads * s.width, batch = int64_t(s.lengths.size());
  const std::string name = "attention rows " + std::to_string(m) + " width " + std::to_string(s.width) +
                           (s.causal ? " causal " : " ") + type_name(type);
  Tensor qkv = Tensor::random(m * 3 * d, type, 1.5), y(m * d, type), lse(s.heads * m);
  attention_args f{};
  f.batch = batch, f.m = m, f.d = d, f.heads = s.heads, f.qkv = qkv.data(), f.type = type, f.causal = s.causal;
  f.max_tokens = *std::max_element(s.lengths.begin(), s.lengths.end());
  f.offsets = offsets.data(), f.y = y.data(), f.lse = lse.f32();

  const Reference x = values(qkv);
  Tensor dy = Tensor::random(m * d, type), dqkv(m * 3 * d, type);
  Reference want_y = zeros(m * d), want_lse = zeros(s.heads * m), want = zeros(m * 3 * d);
  for (int64_t b = 0; b < batch; ++b) {
    for (int64_t row = offsets[size_t(b)]; row < offsets[size_t(b) + 1]; ++row) {
      const int64_t begin = offsets[size_t(b)], end = s.causal ? row + 1 : offsets[size_t(b) + 1];
      for (int64_t h = 0; h < s.heads; ++h) {
        const int64_t column = h * s.width;
        const Reference p = row_weights(x, d, row, begin, end, column, s.width, &want_lse[size_t(h * m + row)]);
        double delta = 0;
        for (int64_t i = 0; i < s.width; ++i) {
          double value = 0;
          for (int64_t j = begin; j < end; ++j)
            value += p[size_t(j - begin)] * x[size_t(j * 3 * d + 2 * d + column + i)];
          want_y[size_t(row * d + column + i)] = value;
          delta += value * dy.at(row * d + column + i);
        }
        for (int64_t j = begin; j < end; ++j) {
          double dp = 0;
          for (int64_t i = 0; i < s.width; ++i) {
            const double g = dy.at(row * d + column + i);
            dp += g * x[size_t(j * 3 * d + 2 * d + column + i)];
            want[size_t(j * 3 * d + 2 * d + column + i)] += p[size_t(j - begin)] * g;
          }
          const double ds = p[size_t(j - begin)] * (dp - delta) / std::sqrt(double(s.width));
          for (int64_t i = 0; i < s.width; ++i) {
            want[size_t(row * 3 * d + column + i)] += ds * x[size_t(j * 3 * d + d + column + i)];
            want[size_t(j * 3 * d + d + column + i)] += ds * x[size_t(row * 3 * d + column + i)];
          }
        }
      }
    }
  }
  check(name, {{"y", &y, want_y, tolerance_of(type)}, {"lse", &lse, want_lse, 1e-6}},
        [&](CbContext* context) { return backend().attention_forward(context, &f); });
  f.lse = nullptr;
  check(name + " without lse", {{"y", &y, want_y, tolerance_of(type)}},
        [&](CbContext* context) { return backend().attention_forward(context, &f); });
  f.lse = lse.f32();
  attention_grads g{};
  g.f = &f, g.dy = dy.data(), g.dqkv = dqkv.data();
  check(name + " backward", {{"dqkv", &dqkv, want, tolerance_of(type, 1e-5, 8e-3)}},
        [&](CbContext* context) { return backend().attention_backward(context, &g); });
}

void refuse_wrong_offsets() {
  Tensor qkv = Tensor::random(6 * 12), y(6 * 4), lse(6);
  attention_args f{};
  f.batch = 2, f.m = 6, f.d = 4, f.heads = 1, f.max_tokens = 4, f.qkv = qkv.data(), f.y = y.data(), f.lse = lse.f32();
  const auto expect = [&](std::vector<int32_t> offsets, const char* text) {
    f.offsets = offsets.data();
    check_error("attention offsets", CB_INDEX, text,
                [&](CbContext* context) { return backend().attention_forward(context, &f); });
  };
  expect({1, 3, 6}, "start at 0");
  expect({0, 4, 3}, "ascend");
  expect({0, 1, 6}, "max_tokens");
  expect({0, 3, 5}, "end at the number of rows");
}

}  // namespace

void attention_tests() {
  for (const int32_t type : {CB_F32, CB_BF16}) {
    for (const bool causal : {false, true}) {
      run({{50, 50}, 2, 64, causal}, type);
      run({{77, 16, 1, 0, 33}, 2, 32, causal}, type);
      run({{197}, 1, 64, causal}, type);
      run({{40, 31}, 3, 7, causal}, type);
      run({{65, 14}, 1, 80, causal}, type);
      run({{29}, 1, 128, causal}, type);
      run({{3, 2}, 2, 1, causal}, type);
    }
  }
  run({{577}, 1, 16, false}, CB_F32);
  refuse_wrong_offsets();
}

}  // namespace cambium_test

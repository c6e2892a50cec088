// pooled_attention against attention itself, of which it is one row a sample, and its refusal of wrong rows.
#include "op_test.h"
#include "ops_test.h"

namespace cambium_test {
namespace {

// q, k and v of attention, where only the queries at `rows` matter: the others are zeros.
void run(const std::vector<int32_t>& offsets, const std::vector<int32_t>& rows, int64_t heads, int64_t width, bool causal,
         int32_t type, bool accumulate) {
  const int64_t m = offsets.back(), d = heads * width, batch = int64_t(rows.size());
  Tensor q = Tensor::random(batch * d, type), kv = Tensor::random(m * 2 * d, type), dy = Tensor::random(batch * d, type);
  Tensor qkv(m * 3 * d), all_y(m * d), lse(heads * m), all_dy(m * d), dqkv(m * 3 * d);
  for (int64_t i = 0; i < m * 3 * d; ++i) {
    const int64_t row = i / (3 * d), column = i % (3 * d);
    qkv.set(i, column < d ? 0 : kv.at(row * 2 * d + column - d));
  }
  for (int64_t i = 0; i < m * d; ++i) all_dy.set(i, 0);
  for (int64_t i = 0; i < batch * d; ++i) {
    qkv.set(rows[size_t(i / d)] * 3 * d + i % d, q.at(i));
    all_dy.set(rows[size_t(i / d)] * d + i % d, dy.at(i));
  }
  attention_args whole{batch, m, d, heads, m, qkv.data(), CB_F32, causal, offsets.data(), all_y.data(), lse.f32(), {}};
  const attention_grads whole_grads{&whole, all_dy.data(), dqkv.data(), {}};

  Tensor y(batch * d, type), dq = Tensor::random(batch * d, type), dkv = Tensor::random(m * 2 * d, type);
  Reference want_dq = accumulate ? values(dq) : zeros(batch * d), want_dkv = accumulate ? values(dkv) : zeros(m * 2 * d);
  CbContext none{};
  backend().attention_forward(&none, &whole);
  backend().attention_backward(&none, &whole_grads);
  Reference want_y = zeros(batch * d);
  for (int64_t i = 0; i < batch * d; ++i) {
    const int64_t row = rows[size_t(i / d)];
    want_y[size_t(i)] = all_y.at(row * d + i % d);
    want_dq[size_t(i)] += dqkv.at(row * 3 * d + i % d);
  }
  for (int64_t i = 0; i < m * 2 * d; ++i) want_dkv[size_t(i)] += dqkv.at(i / (2 * d) * 3 * d + d + i % (2 * d));

  const std::string name = "pooled_attention rows " + std::to_string(m) + " width " + std::to_string(width) +
                           (causal ? " causal " : " ") + type_name(type);
  const pooled_attention_args f{batch, m, d, heads, q.data(), kv.data(), type, causal, offsets.data(), rows.data(), y.data(), {}};
  check(name, {{"y", &y, want_y, tolerance_of(type)}},
        [&](CbContext* context) { return backend().pooled_attention_forward(context, &f); });
  const pooled_attention_grads g{&f, dy.data(), dq.data(), dkv.data(), accumulate, accumulate, {}};
  check(name + " backward", {{"dq", &dq, want_dq, tolerance_of(type, 1e-5)}, {"dkv", &dkv, want_dkv, tolerance_of(type, 1e-5)}},
        [&](CbContext* context) { return backend().pooled_attention_backward(context, &g); });
}

void refuse_wrong_rows() {
  Tensor q = Tensor::random(8), kv = Tensor::random(6 * 8), y(8);
  const auto expect = [&](std::vector<int32_t> offsets, std::vector<int32_t> rows, const char* text) {
    const pooled_attention_args f{2, 6, 4, 1, q.data(), kv.data(), CB_F32, 0, offsets.data(), rows.data(), y.data(), {}};
    check_error("pooled_attention rows", CB_INDEX, text,
                [&](CbContext* context) { return backend().pooled_attention_forward(context, &f); });
  };
  expect({1, 3, 6}, {2, 4}, "start at 0");
  expect({0, 3, 5}, {2, 4}, "end at the number of rows");
  expect({0, 7, 6}, {2, 4}, "ascend");
  expect({0, 3, 6}, {3, 4}, "a row of its sample, got 3 at 0");
  expect({0, 6, 6}, {3, 6}, "a row of its sample, got 6 at 1");
}

}  // namespace

void pooled_attention_tests() {
  for (const int32_t type : {CB_F32, CB_BF16}) {
    for (const bool causal : {false, true}) {
      run({0, 50, 100}, {3, 99}, 2, 64, causal, type, false);
      run({0, 77, 93, 94}, {40, 92, 93}, 2, 32, causal, type, true);
      run({0, 197}, {196}, 1, 7, causal, type, false);
    }
  }
  refuse_wrong_rows();
}

}  // namespace cambium_test

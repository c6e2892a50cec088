// Extra keys and values of attention against their definition in double, forward and backward: separate and joint, tasks,
// weights, slots beyond one tile, and with nothing but the branch to differentiate. pooled_attention against attention.
#include <algorithm>

#include "op_test.h"
#include "ops_test.h"

namespace cambium_test {
namespace {

struct Sizes {
  std::vector<int32_t> lengths;
  int64_t heads, width, tasks, slots;
  bool causal, joint;
};

// Values of a case as doubles, and the gradients that the definition gives.
struct Case {
  Sizes s;
  std::vector<int32_t> offsets{0}, index;
  int64_t m, d;
  Reference qkv, keys, values, weight, dy, y, dqkv, dkeys, dvalues;

  size_t token(int64_t row, int64_t part, int64_t i) const { return size_t((row * 3 + part) * d + i); }
  size_t slot(int64_t b, int64_t j, int64_t i) const { return size_t((index[size_t(b)] * s.slots + j) * d + i); }
};

// One softmax of one query: weighted values into y, and gradients. Key j: its place in `k` and `v` is key(j), and in their
// gradients too.
template <class Place>
void one_softmax(Case& c, int64_t row, int64_t column, int64_t count, double w, const Place& place) {
  const double scale = 1 / std::sqrt(double(c.s.width));
  Reference p = zeros(count), dp = zeros(count);
  double total = 0, delta = 0, top = -HUGE_VAL;
  for (int64_t j = 0; j < count; ++j) {
    for (int64_t i = 0; i < c.s.width; ++i) p[size_t(j)] += scale * c.qkv[c.token(row, 0, column + i)] * *place(j, column + i, 0);
    top = std::max(top, p[size_t(j)]);
  }
  for (double& value : p) total += value = std::exp(value - top);
  for (int64_t j = 0; j < count; ++j) {
    p[size_t(j)] /= total;
    for (int64_t i = 0; i < c.s.width; ++i) {
      const double g = c.dy[size_t(row * c.d + column + i)], v = *place(j, column + i, 1);
      c.y[size_t(row * c.d + column + i)] += w * p[size_t(j)] * v;
      dp[size_t(j)] += w * g * v;
      *place(j, column + i, 3) += w * p[size_t(j)] * g;
    }
    delta += p[size_t(j)] * dp[size_t(j)];
  }
  for (int64_t j = 0; j < count; ++j) {
    const double ds = scale * p[size_t(j)] * (dp[size_t(j)] - delta);
    for (int64_t i = 0; i < c.s.width; ++i) {
      c.dqkv[c.token(row, 0, column + i)] += ds * *place(j, column + i, 0);
      *place(j, column + i, 2) += ds * c.qkv[c.token(row, 0, column + i)];
    }
  }
}

void define(Case& c) {
  for (size_t b = 0; b < c.s.lengths.size(); ++b) {
    const int64_t begin = c.offsets[b], slots = c.s.slots;
    for (int64_t row = begin; row < c.offsets[b + 1]; ++row) {
      const int64_t seen = (c.s.causal ? row + 1 : c.offsets[b + 1]) - begin;
      // what: key, value, gradient of key, of value
      const auto token = [&](int64_t j, int64_t i, int what) {
        return &(what < 2 ? c.qkv : c.dqkv)[c.token(begin + j, 1 + what % 2, i)];
      };
      const auto slot = [&](int64_t j, int64_t i, int what) {
        Reference* const of[4] = {&c.keys, &c.values, &c.dkeys, &c.dvalues};
        return &(*of[what])[c.slot(int64_t(b), j, i)];
      };
      const auto both = [&](int64_t j, int64_t i, int what) { return j < slots ? slot(j, i, what) : token(j - slots, i, what); };
      for (int64_t h = 0; h < c.s.heads; ++h) {
        if (c.s.joint) {
          one_softmax(c, row, h * c.s.width, slots + seen, 1, both);
        } else {
          one_softmax(c, row, h * c.s.width, seen, 1, token);
          one_softmax(c, row, h * c.s.width, slots, c.weight[b], slot);
        }
      }
    }
  }
}

void run(const Sizes& s, int32_t type, bool accumulate) {
  Case c;
  c.s = s;
  const auto batch = int64_t(s.lengths.size());
  for (const int32_t length : s.lengths) c.offsets.push_back(c.offsets.back() + length);
  c.m = c.offsets.back(), c.d = s.heads * s.width;
  Tensor qkv = Tensor::random(c.m * 3 * c.d, type), y(c.m * c.d, type), lse(s.heads * c.m), dy = Tensor::random(c.m * c.d, type);
  Tensor dqkv(c.m * 3 * c.d, type), keys = Tensor::random(s.tasks * s.slots * c.d), vals = Tensor::random(keys.count());
  Tensor dkeys = Tensor::random(keys.count()), dvalues = Tensor::random(keys.count()), weight(batch);
  for (int64_t b = 0; b < batch; ++b) c.index.push_back(int32_t(b * b % s.tasks)), weight.set(b, double(b % 3) / 2);
  c.qkv = values(qkv), c.keys = values(keys), c.values = values(vals), c.weight = values(weight), c.dy = values(dy);
  c.y = zeros(c.m * c.d), c.dqkv = zeros(c.m * 3 * c.d);
  c.dkeys = c.dvalues = zeros(keys.count());
  define(c);
  Reference want_keys = c.dkeys, want_values = c.dvalues;
  for (size_t i = 0; accumulate && i < want_keys.size(); ++i) {
    want_keys[i] += dkeys.at(int64_t(i)), want_values[i] += dvalues.at(int64_t(i));
  }
  attention_args f{};
  f.batch = batch, f.m = c.m, f.d = c.d, f.heads = s.heads, f.qkv = qkv.data(), f.type = type, f.causal = s.causal;
  f.max_tokens = *std::max_element(s.lengths.begin(), s.lengths.end());
  f.offsets = c.offsets.data(), f.y = y.data(), f.lse = lse.f32();
  f.branch = {s.tasks, s.slots, keys.f32(), vals.f32(), c.index.data(), s.joint ? nullptr : weight.f32(), s.joint};
  const std::string name = "attention with " + std::to_string(s.slots) + " slots, rows " + std::to_string(c.m) + " width " +
                           std::to_string(s.width) + (s.causal ? " causal " : " ") + (s.joint ? "joint " : "") + type_name(type);
  check(name, {{"y", &y, c.y, tolerance_of(type)}}, [&](CbContext* context) { return backend().attention_forward(context, &f); });
  attention_grads g{};
  g.f = &f, g.dy = dy.data(), g.dqkv = dqkv.data(), g.branch = {dkeys.f32(), dvalues.f32(), accumulate, accumulate};
  const double bound = tolerance_of(type, 1e-5, 8e-3);
  check(name + " backward",
        {{"dqkv", &dqkv, c.dqkv, bound}, {"dkeys", &dkeys, want_keys, bound}, {"dvalues", &dvalues, want_values, bound}},
        [&](CbContext* context) { return backend().attention_backward(context, &g); });
  g.dqkv = nullptr, g.branch.dkeys_accumulate = g.branch.dvalues_accumulate = 0;
  check(name + " backward of the branch alone", {{"dkeys", &dkeys, c.dkeys, bound}, {"dvalues", &dvalues, c.dvalues, bound}},
        [&](CbContext* context) { return backend().attention_backward(context, &g); });
}

void refuse_wrong_tasks() {
  Tensor qkv = Tensor::random(6 * 12), y(6 * 4), keys = Tensor::random(2 * 3 * 4);
  const std::vector<int32_t> offsets{0, 2, 6}, rows{0, 2};
  for (const int32_t wrong : {-1, 2}) {
    const std::vector<int32_t> index{1, wrong};
    attention_args f{};
    f.batch = 2, f.m = 6, f.d = 4, f.heads = 1, f.max_tokens = 4, f.qkv = qkv.data(), f.y = y.data(), f.offsets = offsets.data();
    f.branch = {2, 3, keys.f32(), keys.f32(), index.data(), nullptr, 0};
    check_error("attention index", CB_INDEX, "expected values in [0, 2), got " + std::to_string(wrong) + " at 1",
                [&](CbContext* context) { return backend().attention_forward(context, &f); });
    const pooled_attention_args p{2, 6, 4, 1, qkv.data(), qkv.data(), CB_F32, 0, offsets.data(), rows.data(), y.data(), f.branch};
    check_error("pooled_attention index", CB_INDEX, "expected values in [0, 2), got " + std::to_string(wrong) + " at 1",
                [&](CbContext* context) { return backend().pooled_attention_forward(context, &p); });
  }
}

}  // namespace

void attention_branch_tests() {
  for (const int32_t type : {CB_F32, CB_BF16}) {
    for (const bool joint : {false, true}) {
      for (const bool causal : {false, true}) {
        run({{50, 16, 0, 33}, 2, 64, 2, 8, causal, joint}, type, false);
        run({{40, 31, 77}, 3, 7, 3, 1, causal, joint}, type, true);
        run({{29, 14}, 1, 128, 1, 40, causal, joint}, type, false);
      }
    }
  }
  refuse_wrong_tasks();
}

}  // namespace cambium_test

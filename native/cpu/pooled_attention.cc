// pooled_attention: softmax attention of one query row of each sample, and its gradient. See args.h for the contract.
//
// One task is one head of one sample. With a single query there is nothing to block: every key and every value is read
// once, in order, which memory bounds. Scores, weights and sums are f32, whatever the type of the tensors.
#include <cstdio>

#include "cpu/attention_branch.h"
#include "cpu/kernels.h"

namespace cambium {
namespace CAMBIUM_LEVEL {
namespace {

constexpr int kScratchSlot = 0;

// One head of one sample: keys in rows [begin, end) of kv, which the query sees up to `seen`.
struct Head {
  int64_t sample, begin, seen, end, column;
};

int64_t width_of(const pooled_attention_args& a) { return a.d / a.heads; }
int64_t key_at(const pooled_attention_args& a, const Head& h, int64_t row) { return row * 2 * a.d + h.column; }
int64_t query_at(const pooled_attention_args& a, const Head& h) { return h.sample * a.d + h.column; }

// Σ a[i] · b[i] over one head's width.
float dot(Input a, int64_t at_a, Input b, int64_t at_b, int64_t width) {
  vf products{};
  for_lanes(0, width, [&](int64_t i, int n) { products = fma(a.at(at_a + i, n), b.at(at_b + i, n), products); });
  return sum(products);
}

// to[i] += factor · from[i]
void add_scaled(float* to, Input from, int64_t at, float factor, int64_t width) {
  const Output out(to, CB_F32);
  for_lanes(0, width,
            [&](int64_t i, int n) { out.put(i, fma(set(factor), from.at(at + i, n), Input(to, CB_F32).at(i, n)), n); });
}

// Weights over what a query sees: its keys, then the slots of its branch, which have a softmax of their own or are part of
// the one.
struct Weights {
  int64_t keys, slots;
  SampleBranch branch;
  bool joint;
  float* p;
};

Weights weights_of(const pooled_attention_args& a, const Head& h, float* p) {
  const SampleBranch branch = branch_of(a.branch, h.sample, a.d);
  return {h.seen - h.begin, branch.length, branch, a.branch.joint != 0, p};
}

void softmax(float* p, int64_t count) {
  float top = -__builtin_inff(), total = 0;
  for (int64_t j = 0; j < count; ++j) top = p[j] > top ? p[j] : top;
  const Input scores(p, CB_F32);
  const Output weights(p, CB_F32);
  for_lanes(0, count, [&](int64_t j, int n) { weights.put(j, exp(scores.at(j, n) - top), n); });
  for (int64_t j = 0; j < count; ++j) total += p[j];
  for_lanes(0, count, [&](int64_t j, int n) { weights.put(j, scores.at(j, n) / total, n); });
}

void softmax_weights(const pooled_attention_args& a, const Head& h, const Weights& w) {
  const Input q(a.q, a.type), kv(a.kv, a.type), extra(w.branch.keys, CB_F32);
  const int64_t width = width_of(a), at = query_at(a, h);
  const float scale = float(1.0 / __builtin_sqrt(double(width)));
  for (int64_t j = 0; j < w.keys; ++j) w.p[j] = scale * dot(q, at, kv, key_at(a, h, h.begin + j), width);
  for (int64_t j = 0; j < w.slots; ++j) w.p[w.keys + j] = scale * dot(q, at, extra, j * a.d + h.column, width);
  softmax(w.p, w.joint ? w.keys + w.slots : w.keys);
  if (!w.joint) softmax(w.p + w.keys, w.slots);
}

bool forward_head(const pooled_attention_args& a, const Head& h) {
  const int64_t width = width_of(a), keys = h.seen - h.begin + a.branch.length;
  float* p = static_cast<float*>(thread_scratch(kScratchSlot, size_t(keys + width) * sizeof(float)));
  if (p == nullptr) return false;
  float* y = p + keys;
  const Weights w = weights_of(a, h, p);
  softmax_weights(a, h, w);
  __builtin_memset(y, 0, size_t(width) * sizeof(float));
  for (int64_t j = 0; j < w.keys; ++j) add_scaled(y, Input(a.kv, a.type), key_at(a, h, h.begin + j) + a.d, p[j], width);
  const Input values(w.branch.values, CB_F32);
  for (int64_t j = 0; j < w.slots; ++j) {
    add_scaled(y, values, j * a.d + h.column, w.branch.weight * p[w.keys + j], width);
  }
  const Output out(a.y, a.type);
  for_lanes(0, width, [&](int64_t i, int n) { out.put(query_at(a, h) + i, Input(y, CB_F32).at(i, n), n); });
  return true;
}

// dS = P ⊙ (dP − Σ P ⊙ dP) · scale, in dP's place.
void softmax_gradient(const float* p, float* dp, int64_t count, float scale) {
  if (count == 0) return;
  int64_t heaviest = 0;
  for (int64_t j = 0; j < count; ++j) {
    if (p[j] > p[heaviest]) heaviest = j;
  }
  // dP counts from the heaviest key's: where that has nearly all the weight, the difference below loses nothing.
  const float base = dp[heaviest];
  float delta = 0;
  for (int64_t j = 0; j < count; ++j) {
    dp[j] -= base;
    delta += p[j] * dp[j];
  }
  for (int64_t j = 0; j < count; ++j) dp[j] = p[j] * (dp[j] - delta) * scale;
}

// dKr and dVr of the slots, in this sample's partial gradients.
void differentiate_slots(const pooled_attention_grads& g, const Head& h, const Weights& w, const float* ds,
                         const BranchPartials& partials) {
  const pooled_attention_args& a = *g.f;
  const auto put = [&](float* to, float factor, const void* from) {
    if (to == nullptr) return;
    const Output out(to, CB_F32);
    for_lanes(0, width_of(a), [&](int64_t i, int n) { out.put(i, factor * Input(from, a.type).at(query_at(a, h) + i, n), n); });
  };
  for (int64_t j = 0; j < w.slots; ++j) {
    const int64_t at = (h.sample * w.slots + j) * a.d + h.column;
    put(partials.keys == nullptr ? nullptr : partials.keys + at, ds[j], a.q);
    put(partials.values == nullptr ? nullptr : partials.values + at, w.branch.weight * w.p[w.keys + j], g.dy);
  }
}

// dP = dY Vᵀ;  dS = P ⊙ (dP − Σ P ⊙ dP) / √K;  dQ = dS K;  dK = dSᵀ Q;  dV = Pᵀ dY
bool backward_head(const pooled_attention_grads& g, const Head& h, const BranchPartials& partials) {
  const pooled_attention_args& a = *g.f;
  const int64_t width = width_of(a), keys = h.seen - h.begin, all = keys + a.branch.length;
  float* p = static_cast<float*>(thread_scratch(kScratchSlot, size_t(2 * all + width) * sizeof(float)));
  if (p == nullptr) return false;
  float *ds = p + all, *dq = ds + all;
  const Weights w = weights_of(a, h, p);
  softmax_weights(a, h, w);
  const Input q(a.q, a.type), kv(a.kv, a.type), dy(g.dy, a.type), k_r(w.branch.keys, CB_F32), v_r(w.branch.values, CB_F32);
  const float scale = float(1.0 / __builtin_sqrt(double(width)));
  for (int64_t j = 0; j < keys; ++j) ds[j] = dot(dy, query_at(a, h), kv, key_at(a, h, h.begin + j) + a.d, width);
  for (int64_t j = 0; j < w.slots; ++j) {
    ds[keys + j] = w.branch.weight * dot(dy, query_at(a, h), v_r, j * a.d + h.column, width);
  }
  softmax_gradient(p, ds, w.joint ? keys + w.slots : keys, scale);
  if (!w.joint) softmax_gradient(p + keys, ds + keys, w.slots, scale);
  differentiate_slots(g, h, w, ds + keys, partials);
  if (g.dq != nullptr) {
    __builtin_memset(dq, 0, size_t(width) * sizeof(float));
    for (int64_t j = 0; j < keys; ++j) add_scaled(dq, kv, key_at(a, h, h.begin + j), ds[j], width);
    for (int64_t j = 0; j < w.slots; ++j) add_scaled(dq, k_r, j * a.d + h.column, ds[keys + j], width);
    const Output out(g.dq, a.type, g.dq_accumulate);
    for_lanes(0, width, [&](int64_t i, int n) { out.put(query_at(a, h) + i, Input(dq, CB_F32).at(i, n), n); });
  }
  if (g.dkv == nullptr) return true;
  const Output out(g.dkv, a.type, g.dkv_accumulate);
  for (int64_t row = h.begin; row < h.end; ++row) {
    const bool seen = row < h.seen;
    const vf dk = set(seen ? ds[row - h.begin] : 0), dv = set(seen ? p[row - h.begin] : 0);
    const int64_t to = key_at(a, h, row), from = query_at(a, h);
    for_lanes(0, width, [&](int64_t i, int n) {
      out.put(to + i, dk * q.at(from + i, n), n);
      out.put(to + a.d + i, dv * dy.at(from + i, n), n);
    });
  }
  return true;
}

int check_rows(CbContext* context, const pooled_attention_args& a) {
  const auto wrong = [&](const char* expected, int32_t got, int64_t i) {
    if (context->message != nullptr)
      snprintf(context->message, 255, "pooled_attention: expected %s, got %d at %lld", expected, got, (long long)i);
    return CB_INDEX;
  };
  if (a.offsets[0] != 0) return wrong("offsets that start at 0", a.offsets[0], 0);
  if (a.offsets[a.batch] != a.m) return wrong("offsets that end at the number of rows", a.offsets[a.batch], a.batch);
  for (int64_t b = 0; b < a.batch; ++b) {
    if (a.offsets[b + 1] < a.offsets[b]) return wrong("offsets that ascend", a.offsets[b + 1], b + 1);
    if (a.row[b] < a.offsets[b] || a.row[b] >= a.offsets[b + 1]) return wrong("a row of its sample", a.row[b], b);
  }
  if (!branch_in_range(context, "pooled_attention index of extra keys", a.branch, a.batch)) return CB_INDEX;
  return CB_OK;
}

// f(head) for every head of every sample, spread over the pool; f returns false when it finds no memory.
template <class F>
int for_heads(const pooled_attention_args& a, const F& f) {
  int status = CB_OK;
  parallel_for(a.batch * a.heads, [&](int64_t task) {
    const int64_t b = task / a.heads, begin = a.offsets[b], end = a.offsets[b + 1];
    const Head head{b, begin, a.causal ? int64_t(a.row[b]) + 1 : end, end, task % a.heads * width_of(a)};
    if (!f(head)) __atomic_store_n(&status, int(CB_OUT_OF_MEMORY), __ATOMIC_RELAXED);
  });
  return status;
}

}  // namespace

int pooled_attention_forward(CbContext* context, const pooled_attention_args* f) {
  if (const int status = check_rows(context, *f)) return status;
  return for_heads(*f, [f](const Head& head) { return forward_head(*f, head); });
}

int pooled_attention_backward(CbContext* context, const pooled_attention_grads* g) {
  const pooled_attention_args& a = *g->f;
  if (const int status = check_rows(context, a)) return status;
  BranchPartials partials;
  if (!take_partials(context, a.branch, g->branch, a.batch, a.d, &partials)) return CB_OUT_OF_MEMORY;
  if (const int status = for_heads(a, [&](const Head& head) { return backward_head(*g, head, partials); })) return status;
  const auto skip = [&a](int64_t b) { return branch_of(a.branch, b, a.d).length == 0; };
  sum_partials(a.branch, partials.keys, a.batch, a.d, g->branch.dkeys, g->branch.dkeys_accumulate, skip);
  sum_partials(a.branch, partials.values, a.batch, a.d, g->branch.dvalues, g->branch.dvalues_accumulate, skip);
  return CB_OK;
}

}  // namespace CAMBIUM_LEVEL
}  // namespace cambium

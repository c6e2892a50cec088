// Forward of attention on tensor cores. A block has 64 queries of one head, a warp 16 of them; keys and values of the
// head lie in shared memory. Up to 264 keys a warp holds whole rows of scores in registers: one softmax, nothing is
// rescaled. Beyond, 64 keys at a time pass through two stages, and sums are rescaled when a row's maximum grows (Dao et
// al. 2022).
#include "cuda/attention_tiles.h"

namespace cambium {
namespace cuda {
namespace {

// Sums of a warp's 16 queries: rows lane / 4 and lane / 4 + 8 of fragments.
template <int WIDTH>
struct Softmax {
  float top[2], total[2], y[WIDTH / 8][4];
  __device__ void clear() {
    top[0] = top[1] = -INFINITY;
    total[0] = total[1] = 0;
#pragma unroll
    for (int t = 0; t < WIDTH / 8; ++t)
#pragma unroll
      for (int c = 0; c < 4; ++c) y[t][c] = 0;
  }
};

// Adds the 8·KEYS keys of a tile, of which [0, count) exist and, when causal, each query sees those up to `seen` + its
// row. Pairs of eight keys from `limit` on are seen by none of the warp's queries.
template <int WIDTH, int KEYS>
__device__ void add_keys(Softmax<WIDTH>& s, const uint32_t (&q)[WIDTH / 16][4], RowTile<WIDTH> k, RowTile<WIDTH> v,
                         int count, bool causal, int seen, float factor) {
  const int lane = threadIdx.x % 32, limit = causal ? min(count, seen + 16) : count;
  float scores[KEYS + KEYS % 2][4];
#pragma unroll
  for (int t = 0; t < KEYS; t += 2) {
#pragma unroll
    for (int c = 0; c < 4; ++c) scores[t][c] = scores[t + 1][c] = 0;
    if (t * 8 >= limit) continue;
#pragma unroll
    for (int c = 0; c < WIDTH / 16; ++c) {
      uint32_t b[4];
      load_right(b, k, t * 8, c * 16);
      multiply_pair(scores[t], scores[t + 1], q[c], b);
    }
  }
  float top[2] = {s.top[0], s.top[1]};
#pragma unroll
  for (int t = 0; t < KEYS; ++t) {
    const bool whole = t * 8 + 8 <= count && (!causal || t * 8 + 7 <= seen);  // every query sees all eight
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      const int key = t * 8 + lane % 4 * 2 + c % 2, row = lane / 4 + c / 2 * 8;
      const bool open = whole || (key < count && (!causal || key <= seen + row));
      scores[t][c] = open ? factor * scores[t][c] : -INFINITY;
      top[c / 2] = fmaxf(top[c / 2], scores[t][c]);
    }
  }
  float old[2], sum[2] = {0, 0};
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    top[r] = quad_max(top[r]);
    const float base = top[r] == -INFINITY ? 0.f : top[r];  // no key yet: everything stays zero
    old[r] = fast_exp2(s.top[r] - base);
    s.top[r] = top[r];
    top[r] = base;
  }
#pragma unroll
  for (int t = 0; t < KEYS; ++t)
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      scores[t][c] = fast_exp2(scores[t][c] - top[c / 2]);
      sum[c / 2] += scores[t][c];
    }
#pragma unroll
  for (int r = 0; r < 2; ++r) s.total[r] = s.total[r] * old[r] + quad_sum(sum[r]);
#pragma unroll
  for (int t = 0; t < WIDTH / 8; ++t)
#pragma unroll
    for (int c = 0; c < 4; ++c) s.y[t][c] *= old[c / 2];
  if constexpr (KEYS % 2 != 0) {
#pragma unroll
    for (int c = 0; c < 4; ++c) scores[KEYS][c] = 0;
  }
#pragma unroll
  for (int t = 0; t < KEYS; t += 2) {
    if (t * 8 >= limit) continue;
    uint32_t p[4];
    left_of(p, scores[t], scores[t + 1]);
#pragma unroll
    for (int c = 0; c < WIDTH / 16; ++c) {
      uint32_t b[4];
      load_right_rows(b, v, t * 8, c * 16);
      multiply_pair(s.y[2 * c], s.y[2 * c + 1], p, b);
    }
  }
}

// Keys in one stage: 8·KEYS rounded up to whole pairs of eight.
template <int KEYS>
constexpr int kStageRows = (KEYS + 1) / 2 * 16;

// Extra keys, 64 at a time, through the tiles k and v.
template <int WIDTH>
__device__ void add_extra(Softmax<WIDTH>& s, const Attention& a, const Keys& extra, const uint32_t (&q)[WIDTH / 16][4],
                          RowTile<WIDTH> k, RowTile<WIDTH> v) {
  for (int64_t first = 0; first < extra.count; first += 64) {
    const int count = int(smaller(64, extra.count - first)), rows = (count + 15) / 16 * 16;
    __syncthreads();
    k.round(extra.k, extra.k_at + first * extra.stride, extra.stride, count, rows, int(a.width));
    v.round(extra.v, extra.v_at + first * extra.stride, extra.stride, count, rows, int(a.width));
    __syncthreads();
    add_keys<WIDTH, 8>(s, q, k, v, count, false, 0, a.scale * kLog2E);
  }
  __syncthreads();
}

template <int WIDTH, int KEYS>
__global__ void __launch_bounds__(kTileThreads)
    attention_forward_kernel(const __grid_constant__ Attention a, uint16_t* y, float* lse, int stages) {
  CB_DYNAMIC_SHARED(uint16_t, shared);
  constexpr int kRows = kStageRows<KEYS>;
  const int64_t b = a.from + blockIdx.z, head = blockIdx.y, start = int64_t(blockIdx.x) * kTileRows;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, width = int(a.width);
  int64_t first, count;
  if (!a.sample(b, &first, &count) || start >= count) return;
  const uint16_t* const qkv = static_cast<const uint16_t*>(a.qkv);
  const RowTile<WIDTH> queries{shared};
  const auto stage = [&](int64_t i, int which) {
    return RowTile<WIDTH>{shared + (kTileRows + (i % stages * 2 + which) * kRows) * RowTile<WIDTH>::kStride};
  };
  const int64_t seen = a.causal ? smaller(count, start + kTileRows) : count, chunks = divide_up(seen, 8 * KEYS);
  const auto fetch = [&](int64_t i) {
    if (i < chunks) {
      const int64_t key = i * 8 * KEYS, at = a.query_at(first + key, head);
      stage(i, 0).copy(qkv + at + a.d, 3 * a.d, seen - key, kRows, width);
      stage(i, 1).copy(qkv + at + 2 * a.d, 3 * a.d, seen - key, kRows, width);
    }
    commit_async();
  };
  queries.copy(qkv + a.query_at(first + start, head), 3 * a.d, count - start, kTileRows, width);
  commit_async();
  wait_async<0>();
  __syncthreads();
  uint32_t q[WIDTH / 16][4];
#pragma unroll
  for (int c = 0; c < WIDTH / 16; ++c) load_left(q[c], queries, warp * 16, c * 16);

  Keys extra;
  float weight = 0;
  const bool has_extra = extra_keys(a.branch, a.tasks, b, a.d, head * a.width, &extra, &weight),
             joint = has_extra && a.branch.joint;
  Softmax<WIDTH> s;
  s.clear();
  if (joint) add_extra(s, a, extra, q, stage(0, 0), stage(0, 1));
  fetch(0);
  for (int64_t i = 0; i < chunks; ++i) {
    if (stages > 1) fetch(i + 1);
    stages > 1 ? wait_async<1>() : wait_async<0>();
    __syncthreads();
    const int64_t key = i * 8 * KEYS;
    add_keys<WIDTH, KEYS>(s, q, stage(i, 0), stage(i, 1), int(smaller(8 * KEYS, count - key)), a.causal != 0,
                          int(start + warp * 16 - key), a.scale * kLog2E);
    __syncthreads();
  }
  const int64_t row = start + warp * 16 + lane / 4;
#pragma unroll
  for (int r = 0; r < 2; ++r)
    if (lse != nullptr && lane % 4 == 0 && row + r * 8 < count)
      lse[head * a.m + first + row + r * 8] = s.top[r] * (1 / kLog2E) + logf(s.total[r]);
  if (has_extra && !joint) {
    Softmax<WIDTH> apart;
    apart.clear();
    wait_async<0>();
    add_extra(apart, a, extra, q, stage(0, 0), stage(0, 1));
#pragma unroll
    for (int t = 0; t < WIDTH / 8; ++t)
#pragma unroll
      for (int c = 0; c < 4; ++c)
        s.y[t][c] = s.y[t][c] / s.total[c / 2] + weight * (apart.y[t][c] / apart.total[c / 2]);
  } else {
#pragma unroll
    for (int t = 0; t < WIDTH / 8; ++t)
#pragma unroll
      for (int c = 0; c < 4; ++c) s.y[t][c] = s.y[t][c] / s.total[c / 2];
  }
  keep_rows(queries, warp * 16, s.y, 1.f, 1.f);
  queries.store(warp * 16, y + (first + start) * a.d + head * a.width, a.d, count - start, width);
}

template <int WIDTH, int KEYS>
int run(CbContext* context, const Attention& a, void* y, float* lse) {
  const int stages = a.max_tokens > 8 * KEYS ? 2 : 1;
  const size_t bytes = RowTile<WIDTH>::bytes(kTileRows + stages * 2 * kStageRows<KEYS>);
  return over_samples(a, divide_up(a.max_tokens, kTileRows), [&](const Attention& part, dim3 grid) {
    return CB_LAUNCH(context, (attention_forward_kernel<WIDTH, KEYS>), grid, dim3(kTileThreads), bytes, part,
                     static_cast<uint16_t*>(y), lse, stages);
  });
}

}  // namespace

bool fits_tensor_cores(const Attention& a) {
  return a.type == CB_BF16 && a.width % 8 == 0 && a.width <= 128 && a.d % 8 == 0 &&
         reinterpret_cast<uintptr_t>(a.qkv) % 16 == 0;
}

int forward_bf16(CbContext* context, const Attention& a, void* y, float* lse) {
  if (a.width <= 32) return run<32, 8>(context, a, y, lse);
  if (a.width > 96) return run<128, 8>(context, a, y, lse);
  if (a.width > 64) return run<96, 8>(context, a, y, lse);
  if (a.max_tokens <= 64) return run<64, 8>(context, a, y, lse);
  if (a.max_tokens <= 80) return run<64, 10>(context, a, y, lse);
  if (a.max_tokens <= 200) return run<64, 25>(context, a, y, lse);
  if (a.max_tokens <= 264) return run<64, 33>(context, a, y, lse);
  return run<64, 8>(context, a, y, lse);
}

}  // namespace cuda
}  // namespace cambium

// Backward of attention on tensor cores, without atomics: every block recomputes P.
//   P = 2^(c·Q Kᵀ − lse·log2(e)), c = log2(e)/√K;  dS = P ⊙ (dY Vᵀ − δ)
//   keys:    a block has 64 keys of one head, queries pass by:  dV = Pᵀ dY,  dK = dSᵀ Q / √K
//   queries: a block has 64 queries, keys pass by:              dQ = dS K / √K
// Both kinds are one launch, those of a head beside each other, so that its tensors come from memory once. What passes
// by comes in two stages. Extra keys of a branch are keys like others, with statistics of their own when their softmax
// is; their weight multiplies P. Queries and keys that do not exist have P = 0.
#include "cuda/attention_tiles.h"

namespace cambium {
namespace cuda {
namespace {

// Rows that pass by in one stage: fewer where a warp's sums are wide, so that they stay in registers.
template <int WIDTH>
constexpr int kPassing = WIDTH > 64 ? 32 : 64;

template <int WIDTH>
struct Room {
  static constexpr int kRows = kPassing<WIDTH>;
  uint16_t* shared;
  __device__ RowTile<WIDTH> own(int which) const { return {shared + which * kTileRows * RowTile<WIDTH>::kStride}; }
  __device__ RowTile<WIDTH> stage(int64_t i, int which) const {
    return {shared + (2 * kTileRows + (i % 2 * 2 + which) * kRows) * RowTile<WIDTH>::kStride};
  }
  // lse in powers of two, then δ, of the queries of a stage.
  __device__ float* statistics(int64_t i) const {
    return reinterpret_cast<float*>(shared + (2 * kTileRows + 4 * kRows) * RowTile<WIDTH>::kStride) + i % 2 * 2 * kRows;
  }
  static constexpr size_t kBytes = RowTile<WIDTH>::bytes(2 * kTileRows + 4 * kRows) + 4 * kRows * sizeof(float);
};

// low, high: 16 rows of a warp against 16 rows of `right`, over the whole width.
template <int WIDTH>
__device__ void multiply_rows(float (&low)[4], float (&high)[4], RowTile<WIDTH> left, int row, RowTile<WIDTH> right,
                              int column) {
#pragma unroll
  for (int c = 0; c < 4; ++c) low[c] = high[c] = 0;
#pragma unroll
  for (int c = 0; c < WIDTH / 16; ++c) {
    uint32_t a[4], b[4];
    load_left(a, left, row, c * 16);
    load_right(b, right, column, c * 16);
    multiply_pair(low, high, a, b);
  }
}

// sums += left [16, 16] · 16 rows of a tile.
template <int WIDTH>
__device__ void add_product(float (&sums)[WIDTH / 8][4], const float (&low)[4], const float (&high)[4],
                            RowTile<WIDTH> rows, int row) {
  uint32_t a[4];
  left_of(a, low, high);
#pragma unroll
  for (int c = 0; c < WIDTH / 16; ++c) {
    uint32_t b[4];
    load_right_rows(b, rows, row, c * 16);
    multiply_pair(sums[2 * c], sums[2 * c + 1], a, b);
  }
}

template <int WIDTH>
__device__ void clear(float (&sums)[WIDTH / 8][4]) {
#pragma unroll
  for (int t = 0; t < WIDTH / 8; ++t)
#pragma unroll
    for (int c = 0; c < 4; ++c) sums[t][c] = 0;
}

// dK and dV of the 64 keys in own(0) and own(1), from w.start on of `keys`: sums of this warp's 16.
template <int WIDTH>
__device__ void sum_keys(const Attention& a, const AttentionGradients& g, const Room<WIDTH>& room, const Work& w,
                         const Side& side, int64_t keys, bool causal, float (&dk)[WIDTH / 8][4],
                         float (&dv)[WIDTH / 8][4]) {
  constexpr int kRows = kPassing<WIDTH>;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const uint16_t* const qkv = static_cast<const uint16_t*>(a.qkv);
  const uint16_t* const dy = static_cast<const uint16_t*>(g.dy);
  const int64_t begin = causal ? w.start / kRows : 0, end = divide_up(w.count, kRows);
  const auto fetch = [&](int64_t i) {
    if (i < end) {
      const int64_t query = i * kRows, left = w.count - query;
      room.stage(i, 0).copy(qkv + a.query_at(w.first + query, w.head), 3 * a.d, left, kRows, int(a.width));
      room.stage(i, 1).copy(dy + (w.first + query) * a.d + w.head * a.width, a.d, left, kRows, int(a.width));
      for (int r = threadIdx.x; r < kRows; r += kTileThreads) {
        room.statistics(i)[r] = r < left ? side.lse[query + r] * kLog2E : INFINITY;
        room.statistics(i)[kRows + r] = r < left ? side.delta[query + r] : 0.f;
      }
    }
    commit_async();
  };
  fetch(begin);
  for (int64_t i = begin; i < end; ++i) {
    fetch(i + 1);
    wait_async<1>();
    __syncthreads();
    const RowTile<WIDTH> q = room.stage(i, 0), d = room.stage(i, 1);
    const float* const lse = room.statistics(i);
    for (int r = 0; r < kRows; r += 16) {
      const int64_t key = w.start + warp * 16, query = i * kRows + r;
      if (key >= keys || query >= w.count || (causal && key > query + 15)) continue;
      float s[2][4], dp[2][4];
      multiply_rows(s[0], s[1], room.own(0), warp * 16, q, r);
      multiply_rows(dp[0], dp[1], room.own(1), warp * 16, d, r);
#pragma unroll
      for (int t = 0; t < 2; ++t)
#pragma unroll
        for (int c = 0; c < 4; ++c) {
          const int column = r + t * 8 + lane % 4 * 2 + c % 2, row = lane / 4 + c / 2 * 8;
          const bool open = key + row < keys && (!causal || key + row <= i * kRows + column);
          const float p = open ? side.weight * fast_exp2(fmaf(a.scale * kLog2E, s[t][c], -lse[column])) : 0.f;
          dp[t][c] = p * (dp[t][c] - lse[kRows + column]);
          s[t][c] = p;
        }
      add_product(dv, s[0], s[1], d, r);
      add_product(dk, dp[0], dp[1], q, r);
    }
    __syncthreads();
  }
  wait_async<0>();
}

template <int WIDTH>
__device__ void own_keys(const Attention& a, const AttentionGradients& g, const Room<WIDTH>& room, const Work& w) {
  const int warp = threadIdx.x / 32, width = int(a.width);
  const uint16_t* const keys = static_cast<const uint16_t*>(a.qkv) + a.query_at(w.first + w.start, w.head) + a.d;
  room.own(0).copy(keys, 3 * a.d, w.count - w.start, kTileRows, width);
  room.own(1).copy(keys + a.d, 3 * a.d, w.count - w.start, kTileRows, width);
  commit_async();
  float dk[WIDTH / 8][4], dv[WIDTH / 8][4];
  clear<WIDTH>(dk);
  clear<WIDTH>(dv);
  sum_keys(a, g, room, w, g.statistics.own(w.head * a.m + w.first), w.count, a.causal != 0, dk, dv);
  uint16_t* const to = static_cast<uint16_t*>(g.dqkv) + a.query_at(w.first + w.start, w.head) + a.d;
  keep_rows(room.own(0), warp * 16, dk, a.scale, a.scale);
  keep_rows(room.own(1), warp * 16, dv, 1.f, 1.f);
  room.own(0).store(warp * 16, to, 3 * a.d, w.count - w.start, width);
  room.own(1).store(warp * 16, to + a.d, 3 * a.d, w.count - w.start, width);
}

// The same of extra keys: f32, one result for each sample.
template <int WIDTH>
__global__ void __launch_bounds__(kTileThreads)
    extra_keys_kernel(const __grid_constant__ Attention a, const __grid_constant__ AttentionGradients g) {
  CB_DYNAMIC_SHARED(uint16_t, shared);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, width = int(a.width);
  Work w{a.from + blockIdx.z, blockIdx.y, 0, 0, int64_t(blockIdx.x) * kTileRows};
  Keys extra;
  float weight;
  if (!a.sample(w.b, &w.first, &w.count)) return;
  if (!extra_keys(a.branch, a.tasks, w.b, a.d, w.head * a.width, &extra, &weight)) return;
  const int64_t left = extra.count - w.start;
  const Room<WIDTH> room{shared};
  room.own(0).round(extra.k, extra.k_at + w.start * extra.stride, extra.stride, left, kTileRows, width);
  room.own(1).round(extra.v, extra.v_at + w.start * extra.stride, extra.stride, left, kTileRows, width);
  float dk[WIDTH / 8][4], dv[WIDTH / 8][4];
  clear<WIDTH>(dk);
  clear<WIDTH>(dv);
  const Side side = g.statistics.of_branch(a.branch, w.head * a.m + w.first, weight);
  sum_keys(a, g, room, w, side, extra.count, false, dk, dv);
#pragma unroll
  for (int t = 0; t < WIDTH / 8; ++t)
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      const int64_t key = w.start + warp * 16 + lane / 4 + c / 2 * 8, column = t * 8 + lane % 4 * 2 + c % 2;
      if (key >= extra.count || column >= a.width) continue;
      const int64_t to = (w.b * extra.count + key) * a.d + w.head * a.width + column;
      g.extra_keys[to] = constant(a.branch) ? 0.f : a.scale * dk[t][c];
      g.extra_values[to] = dv[t][c];
    }
}

// dQ += dS K over the keys of one stage, of which `count` exist; each query sees those up to `seen` + its row.
template <int WIDTH>
__device__ void add_queries(const Attention& a, const Room<WIDTH>& room, RowTile<WIDTH> k, RowTile<WIDTH> v, int count,
                            bool causal, int seen, const float (&lse)[2], const float (&delta)[2], float weight,
                            float (&dq)[WIDTH / 8][4]) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, limit = causal ? min(count, seen + 16) : count;
  for (int key = 0; key < kPassing<WIDTH>; key += 16) {
    if (key >= limit) continue;
    float s[2][4], dp[2][4];
    multiply_rows(s[0], s[1], room.own(0), warp * 16, k, key);
    multiply_rows(dp[0], dp[1], room.own(1), warp * 16, v, key);
#pragma unroll
    for (int t = 0; t < 2; ++t)
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        const int column = key + t * 8 + lane % 4 * 2 + c % 2, row = lane / 4 + c / 2 * 8;
        const bool open = column < count && (!causal || column <= seen + row);
        const float p = open ? weight * fast_exp2(fmaf(a.scale * kLog2E, s[t][c], -lse[c / 2])) : 0.f;
        dp[t][c] = p * (dp[t][c] - delta[c / 2]);
      }
    add_product(dq, dp[0], dp[1], k, key);
  }
}

// lse in powers of two and δ of this lane's two queries.
__device__ void statistics_of(const Side& side, int64_t start, int64_t count, float (&lse)[2], float (&delta)[2]) {
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int64_t query = start + threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4 + r * 8;
    lse[r] = query < count ? side.lse[query] * kLog2E : INFINITY;
    delta[r] = query < count ? side.delta[query] : 0.f;
  }
}

template <int WIDTH>
__device__ void own_queries(const Attention& a, const AttentionGradients& g, const Room<WIDTH>& room, const Work& w) {
  constexpr int kRows = kPassing<WIDTH>;
  const int64_t b = w.b, head = w.head, first = w.first, count = w.count, start = w.start;
  const int warp = threadIdx.x / 32, width = int(a.width);
  const uint16_t* const qkv = static_cast<const uint16_t*>(a.qkv);
  const uint16_t* const dy = static_cast<const uint16_t*>(g.dy);
  room.own(0).copy(qkv + a.query_at(first + start, head), 3 * a.d, count - start, kTileRows, width);
  room.own(1).copy(dy + (first + start) * a.d + head * a.width, a.d, count - start, kTileRows, width);
  const int64_t seen = a.causal ? smaller(count, start + kTileRows) : count, stages = divide_up(seen, kRows);
  const auto fetch = [&](int64_t i) {
    if (i < stages) {
      const uint16_t* const keys = qkv + a.query_at(first + i * kRows, head) + a.d;
      room.stage(i, 0).copy(keys, 3 * a.d, seen - i * kRows, kRows, width);
      room.stage(i, 1).copy(keys + a.d, 3 * a.d, seen - i * kRows, kRows, width);
    }
    commit_async();
  };
  fetch(0);
  float lse[2], delta[2], dq[WIDTH / 8][4];
  clear<WIDTH>(dq);
  const int64_t at = head * a.m + first;
  statistics_of(g.statistics.own(at), start, count, lse, delta);
  for (int64_t i = 0; i < stages; ++i) {
    fetch(i + 1);
    wait_async<1>();
    __syncthreads();
    add_queries(a, room, room.stage(i, 0), room.stage(i, 1), int(smaller(kRows, count - i * kRows)), a.causal != 0,
                int(start + warp * 16 - i * kRows), lse, delta, 1.f, dq);
    __syncthreads();
  }
  wait_async<0>();
  Keys extra;
  float weight;
  if (extra_keys(a.branch, a.tasks, b, a.d, head * a.width, &extra, &weight) && !constant(a.branch)) {
    if (!a.branch.joint) statistics_of(g.statistics.of_branch(a.branch, at, weight), start, count, lse, delta);
    for (int64_t key = 0; key < extra.count; key += kRows) {
      __syncthreads();
      room.stage(0, 0).round(extra.k, extra.k_at + key * extra.stride, extra.stride, extra.count - key, kRows, width);
      room.stage(0, 1).round(extra.v, extra.v_at + key * extra.stride, extra.stride, extra.count - key, kRows, width);
      __syncthreads();
      add_queries(a, room, room.stage(0, 0), room.stage(0, 1), int(smaller(kRows, extra.count - key)), false, 0, lse,
                  delta, weight, dq);
    }
  }
  keep_rows(room.own(0), warp * 16, dq, a.scale, a.scale);
  room.own(0).store(warp * 16, static_cast<uint16_t*>(g.dqkv) + a.query_at(first + start, head), 3 * a.d, count - start,
                    width);
}

// tiles: of 64 rows; the first as many blocks of a head have keys, the others queries.
template <int WIDTH>
__global__ void __launch_bounds__(kTileThreads, WIDTH > 64 ? 1 : 3)
    attention_backward_kernel(const __grid_constant__ Attention a, const __grid_constant__ AttentionGradients g,
                              int tiles) {
  CB_DYNAMIC_SHARED(uint16_t, shared);
  Work w{a.from + blockIdx.z, blockIdx.y, 0, 0, int64_t(blockIdx.x) % tiles * kTileRows};
  if (!a.sample(w.b, &w.first, &w.count) || w.start >= w.count) return;
  const Room<WIDTH> room{shared};
  if (int(blockIdx.x) < tiles)
    own_keys(a, g, room, w);
  else
    own_queries(a, g, room, w);
}

template <int WIDTH>
int run(CbContext* context, const Attention& a, const AttentionGradients& g) {
  constexpr size_t kBytes = Room<WIDTH>::kBytes;
  if (g.dqkv != nullptr) {
    const int64_t tiles = divide_up(a.max_tokens, kTileRows);
    const int status = over_samples(a, 2 * tiles, [&](const Attention& part, dim3 grid) {
      return CB_LAUNCH(context, attention_backward_kernel<WIDTH>, grid, dim3(kTileThreads), kBytes, part, g, int(tiles));
    });
    if (status) return status;
  }
  if (g.extra_keys == nullptr) return CB_OK;
  return over_samples(a, divide_up(a.branch.length, kTileRows), [&](const Attention& part, dim3 grid) {
    return CB_LAUNCH(context, extra_keys_kernel<WIDTH>, grid, dim3(kTileThreads), kBytes, part, g);
  });
}

}  // namespace

int backward_bf16(CbContext* context, const Attention& a, const AttentionGradients& g) {
  if (a.width <= 32) return run<32>(context, a, g);
  if (a.width <= 64) return run<64>(context, a, g);
  return (a.width <= 96 ? run<96> : run<128>)(context, a, g);
}

}  // namespace cuda
}  // namespace cambium

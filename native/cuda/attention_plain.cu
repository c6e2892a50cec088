// Attention without tensor cores, for f32 and for shapes that these do not fit: the reference path, full f32.
//
// A block has 32 queries (or keys) of one head, four to a warp; the other side passes by in shared memory, 32 at a
// time, and a lane has one of them. Sums over the 32 are exchanged by shuffles; a lane keeps every 32nd column of a
// result.
#include "cuda/attention.h"
#include "cuda/reduce.h"

namespace cambium {
namespace cuda {
namespace {

constexpr int kTile = 32, kOwn = kTile / kRowsPerBlock, kMostWidth = 128, kColumns = kMostWidth / kWarp;

// A tile of rows, [kTile][width + 1]: neighbouring rows lie in neighbouring banks.
struct Tile {
  float* at;
  int64_t stride;
  __device__ float* row(int64_t j) const { return at + j * stride; }
};
__device__ void load_tile(Tile tile, Input from, int64_t at, int64_t stride, int64_t rows, int64_t width) {
  for (int64_t i = threadIdx.x; i < kTile * width; i += kThreads) {
    const int64_t row = i / width, c = i % width;
    tile.row(row)[c] = row < rows ? from.at(at + row * stride + c) : 0.f;
  }
}
__device__ float dot(const float* a, const float* b, int64_t width) {
  float sum = 0;
  for (int64_t c = 0; c < width; ++c) sum = fmaf(a[c], b[c], sum);
  return sum;
}
// sum[..] += Σ_j x_j · rows_j, x_j in lane j.
__device__ void add_rows(float (&sum)[kColumns], float x, Tile rows, int64_t width) {
  for (int j = 0; j < kTile; ++j) {
    const float factor = __shfl_sync(0xffffffffu, x, j);
#pragma unroll
    for (int c = 0; c < kColumns; ++c)
      if (threadIdx.x % kWarp + c * kWarp < width)
        sum[c] = fmaf(factor, rows.row(j)[threadIdx.x % kWarp + c * kWarp], sum[c]);
  }
}

// A softmax over keys that pass by.
struct Running {
  float top = -INFINITY, total = 0, y[kColumns] = {};
  __device__ void add(float score, Tile values, int64_t width) {
    const float high = fmaxf(top, warp_max(score));
    if (high == -INFINITY) return;
    const float old = fast_exp2(kLog2E * (top - high)), p = fast_exp2(kLog2E * (score - high));
    total = total * old + warp_sum(p);
    top = high;
#pragma unroll
    for (int c = 0; c < kColumns; ++c) y[c] *= old;
    add_rows(y, p, values, width);
  }
};

// What the tiles of a block need: `count` of them.
__device__ void lay_out(float* shared, int64_t width, Tile* tiles, int count) {
  for (int i = 0; i < count; ++i) tiles[i] = {shared + i * kTile * (width + 1), width + 1};
}
size_t bytes_of(const Attention& a, int tiles) { return size_t(tiles) * kTile * size_t(a.width + 1) * sizeof(float); }

__device__ void attend(const Attention& a, const Keys& keys, int64_t first_query, bool causal, Tile q, Tile k, Tile v,
                       Running (&all)[kOwn]) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int64_t seen = causal ? smaller(keys.count, first_query + kTile) : keys.count;
  for (int64_t chunk = 0; chunk < seen; chunk += kTile) {
    __syncthreads();
    load_tile(k, keys.k, keys.k_at + chunk * keys.stride, keys.stride, keys.count - chunk, a.width);
    load_tile(v, keys.v, keys.v_at + chunk * keys.stride, keys.stride, keys.count - chunk, a.width);
    __syncthreads();
    for (int i = 0; i < kOwn; ++i) {
      const int64_t own = warp * kOwn + i, key = chunk + lane;
      const bool open = key < keys.count && (!causal || key <= first_query + own);
      all[i].add(open ? a.scale * dot(q.row(own), k.row(lane), a.width) : -INFINITY, v, a.width);
    }
  }
}

__global__ void forward_kernel(Attention a, Output y, float* lse) {
  CB_DYNAMIC_SHARED(float, shared);
  const int64_t b = a.from + blockIdx.z, head = blockIdx.y, start = int64_t(blockIdx.x) * kTile;
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  int64_t first, count;
  if (!a.sample(b, &first, &count) || start >= count) return;
  Tile tiles[3];
  lay_out(shared, a.width, tiles, 3);
  load_tile(tiles[0], {a.qkv, a.type}, a.query_at(first + start, head), 3 * a.d, count - start, a.width);
  Running all[kOwn];
  Keys extra;
  float weight = 0;
  const bool has_extra = extra_keys(a.branch, a.tasks, b, a.d, head * a.width, &extra, &weight);
  if (has_extra && a.branch.joint) attend(a, extra, start, false, tiles[0], tiles[1], tiles[2], all);
  attend(a, a.own_keys(first, count, head), start, a.causal != 0, tiles[0], tiles[1], tiles[2], all);
  Running apart[kOwn];
  if (has_extra && !a.branch.joint) attend(a, extra, start, false, tiles[0], tiles[1], tiles[2], apart);
  for (int i = 0; i < kOwn; ++i) {
    const int64_t own = start + warp * kOwn + i, row = first + own;
    if (own >= count) continue;
    if (lse != nullptr && lane == 0) lse[head * a.m + row] = all[i].top + logf(all[i].total);
    for (int c = 0; c < kColumns; ++c) {
      if (lane + c * kWarp >= a.width) continue;
      float result = all[i].y[c] / all[i].total;
      if (has_extra && !a.branch.joint) result += weight * (apart[i].y[c] / apart[i].total);
      y.put(row * a.d + head * a.width + lane + c * kWarp, result);
    }
  }
}

// P and dS of a query and a key that see each other, from the statistics of the query's softmax.
struct Pair {
  float p, ds;
};
__device__ Pair differentiate(float score, float dp, const Side& side, int64_t query) {
  const float p = side.weight * fast_exp2(kLog2E * (score - side.lse[query]));
  return {p, p * (dp - side.delta[query])};
}

// Where dK and dV go: element c of key j is at `at` + j · stride + c of both; dK is multiplied by `key_scale`.
struct KeysGradient {
  Output dk, dv;
  int64_t at, stride;
  float key_scale;
};

// dK and dV of 32 keys from w.start on: all queries of the sample pass by.
__device__ void keys_gradient(const Attention& a, const AttentionGradients& g, const Work& w, const Keys& keys,
                              bool causal, const Side& side, const KeysGradient& to) {
  CB_DYNAMIC_SHARED(float, shared);
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  Tile tiles[4];
  lay_out(shared, a.width, tiles, 4);
  load_tile(tiles[0], keys.k, keys.k_at + w.start * keys.stride, keys.stride, keys.count - w.start, a.width);
  load_tile(tiles[1], keys.v, keys.v_at + w.start * keys.stride, keys.stride, keys.count - w.start, a.width);
  float sums[2][kOwn][kColumns] = {};
  for (int64_t chunk = causal ? w.start : 0; chunk < w.count; chunk += kTile) {
    __syncthreads();
    load_tile(tiles[2], {a.qkv, a.type}, a.query_at(w.first + chunk, w.head), 3 * a.d, w.count - chunk, a.width);
    load_tile(tiles[3], {g.dy, a.type}, (w.first + chunk) * a.d + w.head * a.width, a.d, w.count - chunk, a.width);
    __syncthreads();
    const int64_t query = chunk + lane;
    for (int i = 0; i < kOwn; ++i) {
      const int64_t own = warp * kOwn + i, key = w.start + own;
      Pair s{0, 0};
      if (query < w.count && key < keys.count && (!causal || key <= query))
        s = differentiate(a.scale * dot(tiles[0].row(own), tiles[2].row(lane), a.width),
                          dot(tiles[1].row(own), tiles[3].row(lane), a.width), side, query);
      add_rows(sums[0][i], s.ds, tiles[2], a.width);
      add_rows(sums[1][i], s.p, tiles[3], a.width);
    }
  }
  for (int i = 0; i < kOwn; ++i) {
    const int64_t key = w.start + warp * kOwn + i;
    for (int c = 0; c < kColumns && key < keys.count; ++c) {
      if (lane + c * kWarp >= a.width) continue;
      const int64_t at = to.at + key * to.stride + lane + c * kWarp;
      to.dk.put(at, to.key_scale * sums[0][i][c]);
      to.dv.put(at, sums[1][i][c]);
    }
  }
}

__device__ Work work_of(const Attention& a) {
  return {a.from + blockIdx.z, blockIdx.y, 0, 0, int64_t(blockIdx.x) * kTile};
}

__global__ void own_keys_kernel(Attention a, AttentionGradients g) {
  Work w = work_of(a);
  if (!a.sample(w.b, &w.first, &w.count) || w.start >= w.count) return;
  const Output dk{static_cast<char*>(g.dqkv) + a.d * int64_t(size_of(a.type)), a.type, 0};
  const Output dv{static_cast<char*>(g.dqkv) + 2 * a.d * int64_t(size_of(a.type)), a.type, 0};
  keys_gradient(a, g, w, a.own_keys(w.first, w.count, w.head), a.causal != 0,
                g.statistics.own(w.head * a.m + w.first), {dk, dv, a.query_at(w.first, w.head), 3 * a.d, a.scale});
}

__global__ void extra_keys_kernel(Attention a, AttentionGradients g) {
  Work w = work_of(a);
  Keys extra;
  float weight;
  if (!a.sample(w.b, &w.first, &w.count)) return;
  if (!extra_keys(a.branch, a.tasks, w.b, a.d, w.head * a.width, &extra, &weight)) return;
  keys_gradient(a, g, w, extra, false, g.statistics.of_branch(a.branch, w.head * a.m + w.first, weight),
                {{g.extra_keys, CB_F32, 0},
                 {g.extra_values, CB_F32, 0},
                 w.b * a.branch.length * a.d + w.head * a.width,
                 a.d,
                 constant(a.branch) ? 0.f : a.scale});
}

// dQ += of 32 queries from w.start on, in tiles[0] with dY in tiles[1]: the keys pass by.
__device__ void add_queries_gradient(const Attention& a, const Work& w, const Keys& keys, bool causal,
                                     const Side& side, const Tile (&tiles)[4], float (&dq)[kOwn][kColumns]) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int64_t seen = causal ? smaller(keys.count, w.start + kTile) : keys.count;
  for (int64_t chunk = 0; chunk < seen; chunk += kTile) {
    __syncthreads();
    load_tile(tiles[2], keys.k, keys.k_at + chunk * keys.stride, keys.stride, keys.count - chunk, a.width);
    load_tile(tiles[3], keys.v, keys.v_at + chunk * keys.stride, keys.stride, keys.count - chunk, a.width);
    __syncthreads();
    const int64_t key = chunk + lane;
    for (int i = 0; i < kOwn; ++i) {
      const int64_t own = warp * kOwn + i, query = w.start + own;
      Pair s{0, 0};
      if (query < w.count && key < keys.count && (!causal || key <= query))
        s = differentiate(a.scale * dot(tiles[0].row(own), tiles[2].row(lane), a.width),
                          dot(tiles[1].row(own), tiles[3].row(lane), a.width), side, query);
      add_rows(dq[i], s.ds, tiles[2], a.width);
    }
  }
}

__global__ void queries_kernel(Attention a, AttentionGradients g) {
  CB_DYNAMIC_SHARED(float, shared);
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  Work w = work_of(a);
  if (!a.sample(w.b, &w.first, &w.count) || w.start >= w.count) return;
  const int64_t own = w.first + w.start, left = w.count - w.start, at = w.head * a.m + w.first;
  Tile tiles[4];
  lay_out(shared, a.width, tiles, 4);
  load_tile(tiles[0], {a.qkv, a.type}, a.query_at(own, w.head), 3 * a.d, left, a.width);
  load_tile(tiles[1], {g.dy, a.type}, own * a.d + w.head * a.width, a.d, left, a.width);
  float dq[kOwn][kColumns] = {};
  const Keys keys = a.own_keys(w.first, w.count, w.head);
  add_queries_gradient(a, w, keys, a.causal != 0, g.statistics.own(at), tiles, dq);
  Keys extra;
  float weight;
  if (extra_keys(a.branch, a.tasks, w.b, a.d, w.head * a.width, &extra, &weight) && !constant(a.branch))
    add_queries_gradient(a, w, extra, false, g.statistics.of_branch(a.branch, at, weight), tiles, dq);
  const Output to{g.dqkv, a.type, 0};
  for (int i = 0; i < kOwn; ++i) {
    const int64_t row = warp * kOwn + i;
    for (int c = 0; c < kColumns && row < left; ++c)
      if (lane + c * kWarp < a.width) to.put(a.query_at(own + row, w.head) + lane + c * kWarp, a.scale * dq[i][c]);
  }
}

// `kernel` with a block for each 32 of `rows`.
template <class K, class... A>
int launch_tiles(CbContext* context, const char* name, K kernel, const Attention& a, int64_t rows, size_t bytes,
                 const A&... arguments) {
  return over_samples(a, divide_up(rows, kTile), [&](const Attention& part, dim3 grid) {
    return launch(context, name, kernel, grid, dim3(kThreads), bytes, part, arguments...);
  });
}
#define LAUNCH_TILES(context, kernel, ...) launch_tiles(context, #kernel, kernel, __VA_ARGS__)

}  // namespace

int forward_plain(CbContext* context, const Attention& a, void* y, float* lse) {
  return LAUNCH_TILES(context, forward_kernel, a, a.max_tokens, bytes_of(a, 3), Output{y, a.type, 0}, lse);
}

int backward_plain(CbContext* context, const Attention& a, const AttentionGradients& g) {
  const size_t bytes = bytes_of(a, 4);
  if (g.dqkv != nullptr) {
    if (const int status = LAUNCH_TILES(context, own_keys_kernel, a, a.max_tokens, bytes, g)) return status;
    if (const int status = LAUNCH_TILES(context, queries_kernel, a, a.max_tokens, bytes, g)) return status;
  }
  if (g.extra_keys == nullptr) return CB_OK;
  return LAUNCH_TILES(context, extra_keys_kernel, a, a.branch.length, bytes, g);
}

}  // namespace cuda
}  // namespace cambium

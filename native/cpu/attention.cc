// attention: ragged multi-head softmax attention and its gradient. See args.h for the contract.
//
// One task is one head of one sample. Queries go in blocks of nr (the columns of the micro-kernel) against all keys,
// and scores are kept transposed, Sᵀ [keys, nr]: softmax then works down columns, lane by lane, and its result already
// has the layout of a right operand.
//   forward of a block:   Sᵀ = K Qᵀ;  Pᵀ = softmax;  Yᵀ = Vᵀ Pᵀ
//   backward of a block:  Pᵀ = exp(scale·K Qᵀ − lse);  dPᵀ = V dYᵀ;  dSᵀ = Pᵀ ⊙ (dPᵀ − delta)·scale, delta = rowsum(dY
//   ⊙ Y)
//                         dV += Pᵀ dY;  dK += dSᵀ Q;  dQᵀ = Kᵀ dSᵀ      (Dao et al. 2022, without their tiling of keys)
// Nothing of size keys × queries is kept: a block's scores stay in cache up to some thousand tokens. Causal blocks stop
// at their last query. Products are summed in f32 by the micro-kernel; P and dS are rounded to its operand type.
//
// Panels are cut and joined along k in multiples of k_unit, as micro-kernels allow (gemm.h).
#include <cstdio>

#include "cpu/elementwise.h"
#include "cpu/gemm/pack_f32.h"
#include "cpu/kernels.h"

namespace cambium {
namespace CAMBIUM_LEVEL {
namespace {

constexpr int kScratchSlot = 0;
constexpr int64_t kAlignment = 64;
constexpr int64_t kPackStep = 32;  // a multiple of every k_unit

// What all heads share.
struct Shape {
  const MicroKernel* kernel;
  int64_t mr, nr, width, keep;  // width: K; keep: rows of a [K, ·] result after padding to whole tiles
  int64_t d, heads, m;
  Element type;
  float scale;
  bool causal, direct;  // direct: f32 scores [keys][nr] are a packed right operand as they stand
};

Shape shape_of(const attention_args& a) {
  Shape s;
  s.kernel = &micro_kernel(Element(a.type));
  s.mr = s.kernel->mr;
  s.nr = s.kernel->nr;
  s.width = a.d / a.heads;
  s.keep = divide_up(s.width, s.mr) * s.mr;
  s.d = a.d;
  s.heads = a.heads;
  s.m = a.m;
  s.type = Element(a.type);
  s.scale = float(1.0 / __builtin_sqrt(double(s.width)));
  s.causal = a.causal != 0;
  s.direct = s.kernel->type == Element::f32 && s.kernel->k_unit == 1;
  return s;
}

// Cuts one allocation into aligned pieces; with a null base it only counts.
struct Pieces {
  char* base;
  size_t used;
  template <class T>
  T* take(int64_t bytes) {
    T* piece = base == nullptr ? nullptr : reinterpret_cast<T*>(base + used);
    used += size_t(divide_up(bytes, kAlignment) * kAlignment);
    return piece;
  }
};

int64_t a_bytes(const Shape& s, int64_t rows, int64_t k) {
  return divide_up(rows, s.mr) * int64_t(a_panel_bytes(*s.kernel, k));
}
int64_t b_bytes(const Shape& s, int64_t k, int64_t columns) {
  return divide_up(columns, s.nr) * int64_t(b_panel_bytes(*s.kernel, k));
}

MatrixView view_at(MatrixView v, int64_t i, int64_t j) {
  const int64_t offset = i * v.row_stride + j * v.column_stride;
  return {static_cast<const char*>(v.data) + offset * int64_t(element_size(v.type)), v.type, v.row_stride,
          v.column_stride};
}
MatrixView transposed(MatrixView v) { return {v.data, v.type, v.column_stride, v.row_stride}; }

void pack_left(const Shape& s, MatrixView v, int64_t rows, int64_t k, char* to) {
  for (int64_t row = 0; row < rows; row += s.mr, to += a_panel_bytes(*s.kernel, k)) {
    s.kernel->pack_a(view_at(v, row, 0), smaller(s.mr, rows - row), k, to);
  }
}
void pack_right(const Shape& s, MatrixView v, int64_t k, int64_t columns, char* to) {
  for (int64_t column = 0; column < columns; column += s.nr, to += b_panel_bytes(*s.kernel, k)) {
    s.kernel->pack_b(view_at(v, 0, column), k, smaller(s.nr, columns - column), to);
  }
}

// Rows of scores that stand in memory: whole tiles, and whole steps of packing.
int64_t score_rows(const Shape& s, int64_t n) {
  return larger(divide_up(n, s.mr) * s.mr, divide_up(n, kPackStep) * kPackStep);
}

// Scores (or their gradient) [keys][nr] as a right operand: as they stand, or packed into `room`. Packing is fastest in
// whole steps of k, so the last one is filled up with zeros.
const void* right_operand(const Shape& s, float* scores, int64_t keys, int64_t columns, char* room) {
  if (s.direct) return scores;
  const int64_t rows = divide_up(keys, kPackStep) * kPackStep;
  __builtin_memset(scores + keys * s.nr, 0, size_t((rows - keys) * s.nr) * sizeof(float));
  s.kernel->pack_b({scores, Element::f32, s.nr, 1}, rows, columns, room);
  return room;
}

// out [tiles·mr][nr] = left panels (each over `panel_k`, of which the first k count) · right, for so many columns.
void multiply_tiles(const Shape& s, int64_t rows, int64_t panel_k, int64_t k, const char* left, const void* right,
                    float* out, int64_t columns) {
  const size_t bytes = a_panel_bytes(*s.kernel, panel_k);
  const auto run = columns < s.nr ? s.kernel->run_half : s.kernel->run;
  for (int64_t row = 0; row < rows; row += s.mr, left += bytes, out += s.mr * s.nr) {
    run(padded_k(*s.kernel, k), left, right, out, false);
  }
}

// Columns of a tile that are computed when `queries` are wanted: all, or the first half.
int64_t columns_for(const Shape& s, int64_t queries) { return 2 * queries <= s.nr ? s.nr / 2 : s.nr; }

// Writes a [K][nr] result to the rows of the block's queries: row q (rows are `stride` apart) gets column q ·
// factor[q].
void store_columns(const Shape& s, const float* result, const float* factor, int64_t queries, Output out, int64_t at,
                   int64_t stride) {
  for (int64_t first = 0; first < queries; first += W) {
    const vf scale = factor != nullptr ? load(factor + first) : set(1.f);
    const int64_t rows = smaller(W, queries - first);
    for (int64_t i = 0; i < s.width; i += W) {
      vf r[W];
#pragma GCC unroll 16
      for (int t = 0; t < W; ++t) r[t] = scale * load(result + (i + t) * s.nr + first);
      transpose(r);
      const int n = int(smaller(W, s.width - i));
      for (int64_t t = 0; t < rows; ++t) out.put(at + (first + t) * stride + i, r[t], n);
    }
  }
}

CAMBIUM_INLINE vi lane_index() {
  vi lane;
  for (int i = 0; i < W; ++i) lane[i] = i;
  return lane;
}

// Scores [keys][nr] become exp(scale · (score − largest of the column)); inverse[nr] = 1 / column sums. lse: may be
// null.
void softmax_columns(const Shape& s, float* scores, int64_t keys, int64_t first_query, int64_t columns, float* inverse,
                     float* lse) {
  const vf never = set(-__builtin_inff()), scale = set(s.scale);
  for (int64_t c = 0; c < columns; c += W) {
    float* column = scores + c;
    const int64_t open = s.causal ? smaller(keys, first_query + c + 1) : keys;  // keys that every lane may see
    const vi query = lane_index() + int32_t(first_query + c);
    vf top[4] = {never, never, never, never};
    int64_t j = 0;
    for (; j + 4 <= open; j += 4) {
      for (int t = 0; t < 4; ++t) top[t] = max(load(column + (j + t) * s.nr), top[t]);
    }
    for (; j < open; ++j) top[0] = max(load(column + j * s.nr), top[0]);
    for (; j < keys; ++j) top[0] = query >= int32_t(j) ? max(load(column + j * s.nr), top[0]) : top[0];
    const vf largest = scale * max(max(top[0], top[1]), max(top[2], top[3]));
    vf even{}, odd{};
    for (j = 0; j + 2 <= open; j += 2) {
      const vf a = exp(fma(scale, load(column + j * s.nr), -largest));
      const vf b = exp(fma(scale, load(column + (j + 1) * s.nr), -largest));
      store(column + j * s.nr, a);
      store(column + (j + 1) * s.nr, b);
      even += a;
      odd += b;
    }
    for (; j < keys; ++j) {
      const vf e = exp(fma(scale, load(column + j * s.nr), -largest));
      const vf seen = (j < open) | (query >= int32_t(j)) ? e : vf{};
      store(column + j * s.nr, seen);
      even += seen;
    }
    const vf total = even + odd;
    store(inverse + c, 1.f / total);
    if (lse != nullptr) {
      for (int lane = 0; lane < W; ++lane) lse[c + lane] = largest[lane] + __builtin_logf(total[lane]);
    }
  }
}

// One head of one sample: rows [row, row + n) of the packed tensors, columns from `column`.
struct Head {
  int64_t row, n, column, index;
};

struct ForwardRoom {
  char *keys, *values, *queries, *weights;
  float *scores, *result, *inverse, *lse;
};

size_t forward_room(const Shape& s, int64_t n, char* base, ForwardRoom* r) {
  Pieces pieces{base, 0};
  r->keys = pieces.take<char>(a_bytes(s, n, s.width));
  r->values = pieces.take<char>(a_bytes(s, s.width, n));
  r->queries = pieces.take<char>(b_bytes(s, s.width, s.nr));
  r->weights = pieces.take<char>(s.direct ? 0 : b_bytes(s, score_rows(s, n), s.nr));
  r->scores = pieces.take<float>(score_rows(s, n) * s.nr * 4);
  r->result = pieces.take<float>((s.keep + W) * s.nr * 4);
  r->inverse = pieces.take<float>(s.nr * 4);
  r->lse = pieces.take<float>(s.nr * 4);
  return pieces.used;
}

bool forward_head(const Shape& s, const attention_args& a, const Head& head) {
  ForwardRoom room;
  char* base = static_cast<char*>(thread_scratch(kScratchSlot, forward_room(s, head.n, nullptr, &room)));
  if (base == nullptr) return false;
  forward_room(s, head.n, base, &room);
  const MatrixView packed{a.qkv, s.type, 3 * s.d, 1};
  const MatrixView q = view_at(packed, head.row, head.column), k = view_at(q, 0, s.d), v = view_at(k, 0, s.d);
  pack_left(s, k, head.n, s.width, room.keys);
  pack_left(s, transposed(v), s.width, head.n, room.values);
  const Output y(a.y, a.type);
  for (int64_t first = 0; first < head.n; first += s.nr) {
    const int64_t queries = smaller(s.nr, head.n - first);
    const int64_t keys = s.causal ? smaller(head.n, first + s.nr) : head.n;
    pack_right(s, transposed(view_at(q, first, 0)), s.width, queries, room.queries);
    const int64_t columns = columns_for(s, queries);
    multiply_tiles(s, keys, s.width, s.width, room.keys, room.queries, room.scores, columns);
    softmax_columns(s, room.scores, keys, first, columns, room.inverse, a.lse != nullptr ? room.lse : nullptr);
    const void* weights = right_operand(s, room.scores, keys, columns, room.weights);
    multiply_tiles(s, s.width, head.n, keys, room.values, weights, room.result, columns);
    store_columns(s, room.result, room.inverse, queries, y, (head.row + first) * s.d + head.column, s.d);
    for (int64_t i = 0; a.lse != nullptr && i < queries; ++i)
      a.lse[head.index * s.m + head.row + first + i] = room.lse[i];
  }
  return true;
}

struct BackwardRoom {
  char *keys, *values, *keys_across;                  // left: K, V by rows; Kᵀ
  char *queries, *dys, *queries_across, *dys_across;  // right: Qᵀ, dYᵀ; Q, dY over the block's queries
  char *tile, *packed;                                // one tile of P or dS as left operand; dS as right operand
  float *scores, *dscores, *result, *dk, *dv, *lse, *delta;
};

size_t backward_room(const Shape& s, int64_t n, char* base, BackwardRoom* r) {
  Pieces pieces{base, 0};
  const int64_t padded = divide_up(n, s.nr) * s.nr;
  r->keys = pieces.take<char>(a_bytes(s, n, s.width));
  r->values = pieces.take<char>(a_bytes(s, n, s.width));
  r->keys_across = pieces.take<char>(a_bytes(s, s.width, n));
  r->queries = pieces.take<char>(b_bytes(s, s.width, s.nr));
  r->dys = pieces.take<char>(b_bytes(s, s.width, s.nr));
  r->queries_across = pieces.take<char>(b_bytes(s, s.nr, s.width));
  r->dys_across = pieces.take<char>(b_bytes(s, s.nr, s.width));
  r->tile = pieces.take<char>(a_bytes(s, s.mr, s.nr));
  r->packed = pieces.take<char>(s.direct ? 0 : b_bytes(s, score_rows(s, n), s.nr));
  r->scores = pieces.take<float>(s.mr * s.nr * 4);
  r->dscores = pieces.take<float>(score_rows(s, n) * s.nr * 4);
  r->result = pieces.take<float>((s.keep + W) * s.nr * 4);
  const int64_t sums = divide_up(n, s.mr) * s.mr * divide_up(s.width, s.nr) * s.nr * 4;
  r->dk = pieces.take<float>(sums);
  r->dv = pieces.take<float>(sums);
  r->lse = pieces.take<float>(padded * 4);
  r->delta = pieces.take<float>(padded * 4);
  return pieces.used;
}

// lse and delta of every query; padded queries get lse = +inf, which makes their P zero.
void row_statistics(const Shape& s, const attention_grads& g, const Head& head, BackwardRoom& room) {
  const Input y(g.f->y, g.f->type), dy(g.dy, g.f->type);
  const int64_t padded = divide_up(head.n, s.nr) * s.nr;
  for (int64_t i = 0; i < padded; ++i) {
    room.delta[i] = 0;
    room.lse[i] = __builtin_inff();
    if (i >= head.n) continue;
    const int64_t at = (head.row + i) * s.d + head.column;
    vf products{};
    for_lanes(at, at + s.width, [&](int64_t j, int n) { products = fma(y.at(j, n), dy.at(j, n), products); });
    room.delta[i] = sum(products);
    room.lse[i] = g.f->lse[head.index * s.m + head.row + i];
  }
}

// From a tile of scores and of dP (both [mr][nr], keys from `key`): P in `scores`, dS in `dscores`.
void differentiate_tile(const Shape& s, float* scores, float* dscores, int64_t key, int64_t first, int64_t columns,
                        const BackwardRoom& room) {
  const bool masked = s.causal && key + s.mr > first + 1;
  for (int64_t c = 0; c < columns; c += W) {
    const vf lse = load(room.lse + first + c), delta = load(room.delta + first + c), scale = set(s.scale);
    const vi query = lane_index() + int32_t(first + c);
    for (int64_t j = 0; j < s.mr; ++j) {
      const int64_t at = j * s.nr + c;
      vf p = exp(fma(scale, load(scores + at), -lse));
      if (masked) p = query >= int32_t(key + j) ? p : vf{};
      store(scores + at, p);
      store(dscores + at, p * ((load(dscores + at) - delta) * scale));
    }
  }
}

// sums [panels][mr][nr] (+)= the tile's first `queries` columns · right operand [queries, K]
// Columns behind the queries are zeros, or left out of the product; packing them too is faster than stopping early.
void add_products(const Shape& s, const float* tile, int64_t queries, const char* right, float* sums, bool accumulate,
                  char* room) {
  const int64_t columns = columns_for(s, queries);
  s.kernel->pack_a({tile, Element::f32, s.nr, 1}, s.mr, padded_k(*s.kernel, queries) <= columns ? s.nr : columns, room);
  const size_t bytes = b_panel_bytes(*s.kernel, queries);
  for (int64_t c = 0; c < s.width; c += s.nr, right += bytes, sums += s.mr * s.nr) {
    s.kernel->run(padded_k(*s.kernel, queries), room, right, sums, accumulate);
  }
}

// Rows of dK or dV from their sums [tiles][panels][mr][nr].
void store_sums(const Shape& s, const float* sums, int64_t n, Output out, int64_t at, int64_t stride) {
  for (int64_t first = 0; first < n; first += s.mr) {
    for (int64_t column = 0; column < s.width; column += s.nr, sums += s.mr * s.nr) {
      const int64_t columns = smaller(s.nr, s.width - column);
      for (int64_t i = 0; i < smaller(s.mr, n - first); ++i) {
        const Input from(sums + i * s.nr, CB_F32);
        const int64_t to = at + (first + i) * stride + column;
        for_lanes(0, columns, [=](int64_t j, int lanes) { out.put(to + j, from.at(j, lanes), lanes); });
      }
    }
  }
}

bool backward_head(const Shape& s, const attention_grads& g, const Head& head) {
  BackwardRoom room;
  char* base = static_cast<char*>(thread_scratch(kScratchSlot, backward_room(s, head.n, nullptr, &room)));
  if (base == nullptr) return false;
  backward_room(s, head.n, base, &room);
  const MatrixView packed{g.f->qkv, s.type, 3 * s.d, 1}, dys{g.dy, s.type, s.d, 1};
  const MatrixView q = view_at(packed, head.row, head.column), k = view_at(q, 0, s.d), v = view_at(k, 0, s.d);
  const MatrixView dy = view_at(dys, head.row, head.column);
  pack_left(s, k, head.n, s.width, room.keys);
  pack_left(s, v, head.n, s.width, room.values);
  pack_left(s, transposed(k), s.width, head.n, room.keys_across);
  row_statistics(s, g, head, room);
  const Output out(g.dqkv, g.f->type);
  const int64_t stride = 3 * s.d, at = head.row * stride + head.column;
  const int64_t tile = s.mr * s.nr, sums = tile * divide_up(s.width, s.nr);
  const size_t panel = a_panel_bytes(*s.kernel, s.width);
  const int64_t width = padded_k(*s.kernel, s.width);
  int64_t started = 0;  // tiles of keys whose sums have begun
  for (int64_t first = 0; first < head.n; first += s.nr) {
    const int64_t queries = smaller(s.nr, head.n - first);
    const int64_t keys = s.causal ? smaller(head.n, first + s.nr) : head.n, tiles = divide_up(keys, s.mr);
    pack_right(s, transposed(view_at(q, first, 0)), s.width, queries, room.queries);
    pack_right(s, transposed(view_at(dy, first, 0)), s.width, queries, room.dys);
    pack_right(s, view_at(q, first, 0), queries, s.width, room.queries_across);
    pack_right(s, view_at(dy, first, 0), queries, s.width, room.dys_across);
    const int64_t columns = columns_for(s, queries);
    const auto run = columns < s.nr ? s.kernel->run_half : s.kernel->run;
    for (int64_t t = 0; t < tiles; ++t) {
      float* dscores = room.dscores + t * tile;
      run(width, room.keys + t * panel, room.queries, room.scores, false);
      run(width, room.values + t * panel, room.dys, dscores, false);
      differentiate_tile(s, room.scores, dscores, t * s.mr, first, columns, room);
      add_products(s, room.scores, queries, room.dys_across, room.dv + t * sums, t < started, room.tile);
      add_products(s, dscores, queries, room.queries_across, room.dk + t * sums, t < started, room.tile);
    }
    started = larger(started, tiles);
    const void* right = right_operand(s, room.dscores, keys, columns, room.packed);
    multiply_tiles(s, s.width, head.n, keys, room.keys_across, right, room.result, columns);
    store_columns(s, room.result, nullptr, queries, out, at + first * stride, stride);
  }
  store_sums(s, room.dk, head.n, out, at + s.d, stride);
  store_sums(s, room.dv, head.n, out, at + 2 * s.d, stride);
  return true;
}

int check_offsets(CbContext* context, const attention_args& a) {
  const auto wrong = [&](const char* expected, int32_t got, int64_t i) {
    if (context->message != nullptr) {
      snprintf(context->message, 255, "attention: expected offsets %s, got %d at %lld", expected, got, (long long)i);
    }
    return CB_INDEX;
  };
  if (a.offsets[0] != 0) return wrong("that start at 0", a.offsets[0], 0);
  for (int64_t b = 0; b < a.batch; ++b) {
    const int64_t length = int64_t(a.offsets[b + 1]) - a.offsets[b];
    if (length < 0) return wrong("that ascend", a.offsets[b + 1], b + 1);
    if (length > a.max_tokens) return wrong("with at most max_tokens between them", a.offsets[b + 1], b + 1);
  }
  if (a.offsets[a.batch] != a.m) return wrong("that end at the number of rows", a.offsets[a.batch], a.batch);
  return CB_OK;
}

// f(head) for every head of every sample, spread over the pool; f returns false when it finds no memory.
template <class F>
int for_heads(const Shape& s, const attention_args& a, const F& f) {
  int status = CB_OK;
  parallel_for(a.batch * s.heads, [&](int64_t task) {
    const int64_t sample = task / s.heads, index = task % s.heads;
    const Head head{a.offsets[sample], a.offsets[sample + 1] - a.offsets[sample], index * s.width, index};
    if (head.n == 0) return;
    if (s.kernel->enter != nullptr) s.kernel->enter();
    if (!f(head)) __atomic_store_n(&status, int(CB_OUT_OF_MEMORY), __ATOMIC_RELAXED);
    if (s.kernel->leave != nullptr) s.kernel->leave();
  });
  return status;
}

}  // namespace

int attention_forward(CbContext* context, const attention_args* f) {
  if (const int status = check_offsets(context, *f)) return status;
  const Shape s = shape_of(*f);
  return for_heads(s, *f, [&s, f](const Head& head) { return forward_head(s, *f, head); });
}

int attention_backward(CbContext* context, const attention_grads* g) {
  if (const int status = check_offsets(context, *g->f)) return status;
  const Shape s = shape_of(*g->f);
  return for_heads(s, *g->f, [&s, g](const Head& head) { return backward_head(s, *g, head); });
}

}  // namespace CAMBIUM_LEVEL
}  // namespace cambium

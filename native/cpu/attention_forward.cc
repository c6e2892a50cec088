// Forward of one head. Queries go in blocks of nr (the columns of the micro-kernel) against all keys, and scores are kept
// transposed, [keys, nr]: softmax then works down columns, lane by lane, and its result is a right operand:
//   Sᵀ = K Qᵀ;  Pᵀ = 2^(c·Sᵀ − largest), c = log2(e)/√K;  Yᵀ = Vᵀ Pᵀ, divided by the column sums of Pᵀ on its way out
// Nothing of size keys × queries is kept: a block's scores stay in cache up to some thousand tokens. Causal blocks stop
// at their last query.
#include "cpu/attention.h"

namespace cambium {
namespace CAMBIUM_LEVEL {
namespace {

struct Room {
  char *keys, *values, *queries, *weights;
  float *scores, *result, *inverse, *lse;
};

size_t room_for(const AttentionShape& s, int64_t n, char* base, Room* r) {
  Pieces pieces{base, 0};
  const int64_t rows = divide_up(n, s.mr) * s.mr;
  r->keys = pieces.take<char>(left_bytes(s, n, s.width));
  r->values = pieces.take<char>(left_bytes(s, s.width, n));
  r->queries = pieces.take<char>(right_bytes(s, s.width, s.nr));
  r->weights = pieces.take<char>(s.kernel->pair_block != 0 ? right_bytes(s, n + 1, s.nr) : 0);
  r->scores = pieces.take<float>((rows + 1) * s.nr * 4);
  r->result = pieces.take<float>((s.keep + W) * s.nr * 4);
  r->inverse = pieces.take<float>(s.nr * 4);
  r->lse = pieces.take<float>(s.nr * 4);
  return pieces.used;
}

// The largest of each column among the keys that its query may see; all see the first `open`.
CAMBIUM_INLINE vf largest_of(const AttentionShape& s, const float* column, int64_t keys, int64_t open, vi query) {
  const vf never = set(-__builtin_inff());
  vf top[4] = {never, never, never, never};
  int64_t j = 0;
  for (; j + 4 <= open; j += 4) {
    for (int t = 0; t < 4; ++t) top[t] = max(load(column + (j + t) * s.nr), top[t]);
  }
  for (; j < open; ++j) top[0] = max(load(column + j * s.nr), top[0]);
  for (; j < keys; ++j) top[0] = query >= int32_t(j) ? max(load(column + j * s.nr), top[0]) : top[0];
  return max(max(top[0], top[1]), max(top[2], top[3]));
}

// P of W columns from `c`, rows [0, keys), into `weights` (which may be `scores` itself unless PAIRS); returns its sums.
template <bool PAIRS>
CAMBIUM_INLINE vf exponentials(const AttentionShape& s, const float* scores, void* weights, int64_t c, int64_t keys,
                               int64_t open, vi query, vf factor, vf largest) {
  const float* column = scores + c;
  vf even{}, odd{};
  int64_t j = 0;
  for (; j + 2 <= open; j += 2) {
    const vf a = exp2(fma(factor, load(column + j * s.nr), -largest));
    const vf b = exp2(fma(factor, load(column + (j + 1) * s.nr), -largest));
    put_rows<PAIRS>(s, weights, j, c, a, b);
    even += a;
    odd += b;
  }
  for (; j < keys; j += 2) {
    const vf a = exp2(fma(factor, load(column + j * s.nr), -largest));
    const vf b = exp2(fma(factor, load(column + (j + 1) * s.nr), -largest));
    const vf first = (j < open) | (query >= int32_t(j)) ? a : vf{};
    const vf second = (j + 1 < open) | ((query >= int32_t(j + 1)) & (j + 1 < keys)) ? b : vf{};
    put_rows<PAIRS>(s, weights, j, c, first, second);
    even += first;
    odd += second;
  }
  return even + odd;
}

// Scores [keys][nr] become P, up to a factor per column: inverse[nr] = 1 / column sums. lse: may be null.
template <bool PAIRS>
void softmax_columns(const AttentionShape& s, int64_t keys, int64_t first_query, int64_t columns, bool keep_lse,
                     const Room& room) {
  const vf factor = set(s.scale * kLog2E);
  void* const weights = PAIRS ? static_cast<void*>(room.weights) : room.scores;
  for (int64_t c = 0; c < columns; c += W) {
    const int64_t open = s.causal ? smaller(keys, first_query + c + 1) : keys;  // keys that every lane may see
    const vi query = s.causal ? lane_index() + int32_t(first_query + c) : set_int(int32_t(keys - 1));
    const vf largest = factor * largest_of(s, room.scores + c, keys, open, query);
    const vf total = exponentials<PAIRS>(s, room.scores, weights, c, keys, open, query, factor, largest);
    store(room.inverse + c, 1.f / total);
    for (int lane = 0; keep_lse && lane < W; ++lane) {
      room.lse[c + lane] = largest[lane] * float(1 / double(kLog2E)) + __builtin_logf(total[lane]);
    }
    if (PAIRS) {  // a product takes whole steps of k
      for (int64_t j = keys + keys % 2; j < padded_k(*s.kernel, keys); j += 2) put_rows<PAIRS>(s, weights, j, c, vf{}, vf{});
    }
  }
}

template <bool PAIRS>
bool forward(const AttentionShape& s, const attention_args& a, const Head& head) {
  Room room;
  char* base = static_cast<char*>(thread_scratch(kAttentionScratch, room_for(s, head.n, nullptr, &room)));
  if (base == nullptr) return false;
  room_for(s, head.n, base, &room);
  const MatrixView packed{a.qkv, s.type, 3 * s.d, 1};
  const MatrixView q = view_at(packed, head.row, head.column), k = view_at(q, 0, s.d), v = view_at(k, 0, s.d);
  pack_left(s, k, head.n, s.width, room.keys);
  pack_left(s, transposed(v), s.width, head.n, room.values);
  const Output y(a.y, a.type);
  for (int64_t first = 0; first < head.n; first += s.nr) {
    const int64_t queries = smaller(s.nr, head.n - first), columns = columns_for(s, queries);
    const int64_t keys = s.causal ? smaller(head.n, first + queries) : head.n;
    pack_right(s, transposed(view_at(q, first, 0)), s.width, queries, room.queries);
    multiply_tiles(s, keys, s.width, 0, s.width, room.keys, room.queries, room.scores, columns);
    softmax_columns<PAIRS>(s, keys, first, columns, a.lse != nullptr, room);
    const void* weights = PAIRS ? static_cast<const void*>(room.weights) : room.scores;
    multiply_tiles(s, s.width, head.n, 0, keys, room.values, weights, room.result, columns);
    store_columns(s, room.result, room.inverse, queries, y, (head.row + first) * s.d + head.column, s.d);
    for (int64_t i = 0; a.lse != nullptr && i < queries; ++i)
      a.lse[head.index * s.m + head.row + first + i] = room.lse[i];
  }
  return true;
}

}  // namespace

bool attention_forward_head(const AttentionShape& s, const attention_args& a, const Head& head) {
#if defined(__AVX512BF16__)
  if (s.kernel->pair_block != 0) return forward<true>(s, a, head);
#endif
  return forward<false>(s, a, head);
}

}  // namespace CAMBIUM_LEVEL
}  // namespace cambium

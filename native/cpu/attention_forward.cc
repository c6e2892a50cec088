// Forward of one head. Queries go in blocks of nr (the columns of the micro-kernel) against all keys, and scores are kept
// transposed, [keys, nr]: softmax then works down columns, lane by lane, and its result is a right operand:
//   Sᵀ = K Qᵀ;  Pᵀ = 2^(c·Sᵀ − largest), c = log2(e)/√K;  Yᵀ = Vᵀ Pᵀ, divided by the column sums of Pᵀ on its way out
// Nothing of size keys × queries is kept: a block's scores stay in cache up to some thousand tokens. Causal blocks stop
// at their last query.
//
// A branch adds l slots: tiles of scores of their own, [l, nr], all of them seen by every query. Joint, they share largest
// and sum with the keys. Separate, their weights get the factor w · (sum of the keys' Pᵀ) / (sum of the slots'), so that
// Vrᵀ Prᵀ adds to the same Yᵀ before the one division.
#include "cpu/attention.h"

namespace cambium {
namespace CAMBIUM_LEVEL {
namespace {

struct Room {
  char *keys, *values, *queries, *weights;
  char *slot_keys, *slot_values, *slot_weights;
  float *scores, *slot_scores, *result, *inverse, *lse;
};

size_t room_for(const AttentionShape& s, int64_t n, int64_t slots, char* base, Room* r) {
  Pieces pieces{base, 0};
  const int64_t rows = divide_up(n, s.mr) * s.mr, slot_rows = divide_up(slots, s.mr) * s.mr;
  r->keys = pieces.take<char>(left_bytes(s, n, s.width));
  r->values = pieces.take<char>(left_bytes(s, s.width, n));
  r->queries = pieces.take<char>(right_bytes(s, s.width, s.nr));
  r->weights = pieces.take<char>(s.kernel->pair_block != 0 ? right_bytes(s, n + 1, s.nr) : 0);
  r->scores = pieces.take<float>((rows + 1) * s.nr * 4);
  r->result = pieces.take<float>((s.keep + W) * s.nr * 4);
  r->inverse = pieces.take<float>(s.nr * 4);
  r->lse = pieces.take<float>(s.nr * 4);
  r->slot_keys = pieces.take<char>(left_bytes(s, slots, s.width));
  r->slot_values = pieces.take<char>(left_bytes(s, s.width, slots));
  r->slot_weights = pieces.take<char>(s.kernel->pair_block != 0 ? right_bytes(s, slots + 1, s.nr) : 0);
  r->slot_scores = pieces.take<float>((slot_rows + 1) * s.nr * 4);
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

// A product takes whole steps of k: zeros behind the last row of P, W columns from `c`.
template <bool PAIRS>
CAMBIUM_INLINE void pad_rows(const AttentionShape& s, void* weights, int64_t c, int64_t rows) {
  for (int64_t j = rows + rows % 2; PAIRS && j < padded_k(*s.kernel, rows); j += 2) {
    put_rows<PAIRS>(s, weights, j, c, vf{}, vf{});
  }
}

// 2^(c·S − largest) of W columns from `c` of the slots' scores, in place; returns its sums.
CAMBIUM_INLINE vf slot_exponentials(const AttentionShape& s, float* scores, int64_t slots, vf factor, vf largest) {
  vf total{};
  for (int64_t j = 0; j < slots; ++j, scores += s.nr) {
    const vf e = exp2(fma(factor, load(scores), -largest));
    store(scores, e);
    total += e;
  }
  return total;
}

// The slots' exponentials times `by`, as a right operand.
template <bool PAIRS>
CAMBIUM_INLINE void put_slots(const AttentionShape& s, const Room& room, int64_t c, int64_t slots, vf by) {
  const float* e = room.slot_scores + c;
  void* const weights = PAIRS ? static_cast<void*>(room.slot_weights) : room.slot_scores;
  for (int64_t j = 0; j < slots; j += 2) {
    put_rows<PAIRS>(s, weights, j, c, by * load(e + j * s.nr), j + 1 < slots ? by * load(e + (j + 1) * s.nr) : vf{});
  }
  pad_rows<PAIRS>(s, weights, c, slots);
}

// Scores [keys][nr] become P, up to a factor per column: inverse[nr] = 1 / column sums. lse: may be null. So do the slots'.
template <bool PAIRS>
void softmax_columns(const AttentionShape& s, const Head& head, int64_t keys, int64_t first_query, int64_t columns,
                     bool keep_lse, const Room& room) {
  const vf factor = set(s.scale * kLog2E);
  void* const weights = PAIRS ? static_cast<void*>(room.weights) : room.scores;
  const int64_t slots = head.branch.length;
  for (int64_t c = 0; c < columns; c += W) {
    const int64_t open = s.causal ? smaller(keys, first_query + c + 1) : keys;  // keys that every lane may see
    const vi query = s.causal ? lane_index() + int32_t(first_query + c) : set_int(int32_t(keys - 1));
    vf largest = factor * largest_of(s, room.scores + c, keys, open, query);
    const vf slot_largest = factor * largest_of(s, room.slot_scores + c, slots, slots, query);
    if (head.joint && slots > 0) largest = max(slot_largest, largest);
    vf total = exponentials<PAIRS>(s, room.scores, weights, c, keys, open, query, factor, largest);
    pad_rows<PAIRS>(s, weights, c, keys);
    if (slots > 0) {
      const vf slot_total =
          slot_exponentials(s, room.slot_scores + c, slots, factor, head.joint ? largest : slot_largest);
      put_slots<PAIRS>(s, room, c, slots, head.joint ? set(1) : head.branch.weight * total / slot_total);
      if (head.joint) total += slot_total;
    }
    store(room.inverse + c, 1.f / total);
    for (int lane = 0; keep_lse && lane < W; ++lane) {
      room.lse[c + lane] = largest[lane] * float(1 / double(kLog2E)) + __builtin_logf(total[lane]);
    }
  }
}

template <bool PAIRS>
bool forward(const AttentionShape& s, const attention_args& a, const Head& head) {
  Room room;
  const int64_t slots = head.branch.length;
  char* base = static_cast<char*>(thread_scratch(kAttentionScratch, room_for(s, head.n, slots, nullptr, &room)));
  if (base == nullptr) return false;
  room_for(s, head.n, slots, base, &room);
  const MatrixView packed{a.qkv, s.type, 3 * s.d, 1};
  const MatrixView q = view_at(packed, head.row, head.column), k = view_at(q, 0, s.d), v = view_at(k, 0, s.d);
  pack_left(s, k, head.n, s.width, room.keys);
  pack_left(s, transposed(v), s.width, head.n, room.values);
  if (slots > 0) {
    pack_left(s, slots_of(s, head.branch.keys, head), slots, s.width, room.slot_keys);
    pack_left(s, transposed(slots_of(s, head.branch.values, head)), s.width, slots, room.slot_values);
  }
  const Output y(a.y, a.type);
  for (int64_t first = 0; first < head.n; first += s.nr) {
    const int64_t queries = smaller(s.nr, head.n - first), columns = columns_for(s, queries);
    const int64_t keys = s.causal ? smaller(head.n, first + queries) : head.n;
    pack_right(s, transposed(view_at(q, first, 0)), s.width, queries, room.queries);
    multiply_tiles(s, keys, s.width, 0, s.width, room.keys, room.queries, room.scores, columns);
    multiply_tiles(s, slots, s.width, 0, s.width, room.slot_keys, room.queries, room.slot_scores, columns);
    softmax_columns<PAIRS>(s, head, keys, first, columns, a.lse != nullptr, room);
    const void* weights = PAIRS ? static_cast<const void*>(room.weights) : room.scores;
    multiply_tiles(s, s.width, head.n, 0, keys, room.values, weights, room.result, columns);
    if (slots > 0) {
      const void* slot_weights = PAIRS ? static_cast<const void*>(room.slot_weights) : room.slot_scores;
      multiply_tiles(s, s.width, slots, 0, slots, room.slot_values, slot_weights, room.result, columns, true);
    }
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

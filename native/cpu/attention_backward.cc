// Backward of one head. Keys go in blocks of nr (the columns of the micro-kernel) against all queries that see them:
//   P = 2^(c·Q Kᵀ − lse·log2(e)), c = log2(e)/√K;  dS = P ⊙ (dY Vᵀ − delta), delta = rowsum(dY ⊙ Y)
//   dVᵀ = dYᵀ P;  dKᵀ = Qᵀ dS / √K;  dQ += dS K / √K            (Dao et al. 2022, with whole columns of scores)
// P and dS arise as right operands over all queries, so that dV and dK of a block are finished at once; dS is packed as
// left operand besides, for a few blocks, before dQ takes them. Nothing of size keys × queries is kept.
//
// Slots of a branch come first, as they change delta (attention_slots.h); their part of dQ comes last.
//
// Keys behind the last one and queries behind the last one have P = 0 and dS = 0: the products run over whole tiles.
#include "cpu/attention_slots.h"

namespace cambium {
namespace CAMBIUM_LEVEL {
namespace {

constexpr int64_t kChunkBlocks = 4;  // blocks of keys between two visits of dQ

struct Room {
  char *queries, *dys, *queries_across, *dys_across;  // left, over all queries: Q, dY by rows; Qᵀ, dYᵀ
  char *keys, *values, *keys_across;                  // right: Kᵀ, Vᵀ of a block; K of a chunk
  char *p, *ds, *ds_left;                             // right operands of a block; left operand of a chunk
  float *scores, *dscores, *result, *dq;              // tiles; a [K, nr] result; sums of dQ
  float *lse, *delta, *ones, *scales;                 // by query; nr factors
  SlotRoom slots;
};

size_t room_for(const AttentionShape& s, int64_t n, int64_t slots, char* base, Room* r) {
  Pieces pieces{base, 0};
  const int64_t rows = divide_up(n, s.mr) * s.mr, chunk = smaller(kChunkBlocks, divide_up(n, s.nr)) * s.nr;
  r->queries = pieces.take<char>(left_bytes(s, n, s.width));
  r->dys = pieces.take<char>(left_bytes(s, n, s.width));
  r->queries_across = pieces.take<char>(left_bytes(s, s.width, n));
  r->dys_across = pieces.take<char>(left_bytes(s, s.width, n));
  r->keys = pieces.take<char>(right_bytes(s, s.width, s.nr));
  r->values = pieces.take<char>(right_bytes(s, s.width, s.nr));
  r->keys_across = pieces.take<char>(right_bytes(s, chunk, s.width));
  r->p = pieces.take<char>(right_bytes(s, rows, s.nr));
  r->ds = pieces.take<char>(right_bytes(s, rows, s.nr));
  r->ds_left = pieces.take<char>(left_bytes(s, n, chunk));
  r->scores = pieces.take<float>(s.mr * s.nr * 4);
  r->dscores = pieces.take<float>(s.mr * s.nr * 4);
  r->result = pieces.take<float>((s.keep + W) * s.nr * 4);
  r->dq = pieces.take<float>(rows * divide_up(s.width, s.nr) * s.nr * 4);
  r->lse = pieces.take<float>(rows * 4);
  r->delta = pieces.take<float>(rows * 4);
  r->ones = pieces.take<float>(s.nr * 4);
  r->scales = pieces.take<float>(s.nr * 4);
  take_slots(s, n, slots, pieces, &r->slots);
  return pieces.used;
}

// lse (in powers of two) and delta of every query; behind the last one lse is +inf, which makes P zero.
void row_statistics(const AttentionShape& s, const attention_grads& g, const Head& head, const Room& room) {
  const Input y(g.f->y, g.f->type), dy(g.dy, g.f->type);
  for (int64_t i = 0; i < divide_up(head.n, s.mr) * s.mr; ++i) {
    room.delta[i] = 0;
    room.lse[i] = __builtin_inff();
    if (i >= head.n) continue;
    const int64_t at = (head.row + i) * s.d + head.column;
    vf products{};
    for_lanes(at, at + s.width, [&](int64_t j, int n) { products = fma(y.at(j, n), dy.at(j, n), products); });
    room.delta[i] = sum(products);
    room.lse[i] = g.f->lse[head.index * s.m + head.row + i] * kLog2E;
  }
  for (int64_t c = 0; c < s.nr; ++c) {
    room.ones[c] = 1;
    room.scales[c] = s.scale;
  }
}

// A block of keys [first, first + keys) and the tile of queries from `row` on.
struct Block {
  int64_t first, keys, columns, last_key;  // columns: those that products compute; last_key: of the sample
};

// From a tile of scores and of dY Vᵀ: P and dS as rows from `row` on of right operands that begin at row `origin`, and dS
// as it stands in `dscores`. MASKED: some keys are behind the last one or, in a causal sample, behind their query.
template <bool PAIRS, bool MASKED>
void differentiate_tile(const AttentionShape& s, const Block& b, int64_t row, int64_t origin, const Room& room) {
  const vf factor = set(s.scale * kLog2E);
  for (int64_t i = 0; i < s.mr; i += 2) {
    const float *const lse = room.lse + row + i, *const delta = room.delta + row + i;
    const float* const scores = room.scores + i * s.nr;
    float* const dscores = room.dscores + i * s.nr;
    for (int64_t c = 0; c < b.columns; c += W) {
      vf p = exp2(fma(factor, load(scores + c), -set(lse[0])));
      vf q = exp2(fma(factor, load(scores + s.nr + c), -set(lse[1])));
      vf dp = p * (load(dscores + c) - delta[0]), dq = q * (load(dscores + s.nr + c) - delta[1]);
      if (MASKED) {
        const vi key = lane_index() + int32_t(b.first + c);
        const int64_t seen = s.causal ? smaller(row + i, b.last_key) : b.last_key;
        const int64_t next = s.causal ? smaller(row + i + 1, b.last_key) : b.last_key;
        const vi open = key <= int32_t(seen), also = key <= int32_t(next);
        p = open ? p : vf{}, dp = open ? dp : vf{};
        q = also ? q : vf{}, dq = also ? dq : vf{};
      }
      store(dscores + c, dp);
      store(dscores + s.nr + c, dq);
      put_rows<PAIRS>(s, room.p, row + i - origin, c, p, q);
      put_rows<PAIRS>(s, room.ds, row + i - origin, c, dp, dq);
    }
    for (int64_t c = b.columns; c < s.nr; c += W) {  // not computed: nothing comes from there
      store(dscores + c, vf{});
      store(dscores + s.nr + c, vf{});
    }
  }
}

// Bytes of a left panel from one block of keys to the next.
int64_t left_step(const AttentionShape& s) { return s.nr * s.mr * int64_t(element_size(s.kernel->type)); }

// dK and dV of one block of keys, and its part of the chunk's left operand dS.
template <bool PAIRS>
void differentiate_block(const AttentionShape& s, const Head& head, const Block& b, int64_t chunk_k, char* ds_left,
                         const Room& room, Output out) {
  const auto run = b.columns < s.nr ? s.kernel->run_half : s.kernel->run;
  const int64_t tiles = divide_up(head.n, s.mr), begin = s.causal ? b.first / s.mr : 0, origin = begin * s.mr;
  const int64_t width = padded_k(*s.kernel, s.width), bytes = int64_t(a_panel_bytes(*s.kernel, s.width));
  const int64_t panel = int64_t(a_panel_bytes(*s.kernel, chunk_k));
  for (int64_t t = 0; t < begin; ++t) __builtin_memset(ds_left + t * panel, 0, size_t(left_step(s)));
  for (int64_t t = begin; t < tiles; ++t) {
    run(width, room.queries + t * bytes, room.keys, room.scores, false);
    run(width, room.dys + t * bytes, room.values, room.dscores, false);
    const bool masked = b.keys < b.columns || (s.causal && b.first + b.columns > t * s.mr + 1);
    if (masked) differentiate_tile<PAIRS, true>(s, b, t * s.mr, origin, room);
    else differentiate_tile<PAIRS, false>(s, b, t * s.mr, origin, room);
    s.kernel->pack_a({room.dscores, Element::f32, s.nr, 1}, s.mr, s.nr, ds_left + t * panel);
  }
  const int64_t rows = head.n - origin, stride = 3 * s.d, at = (head.row + b.first) * stride + head.column;
  multiply_tiles(s, s.width, head.n, origin, rows, room.queries_across, room.ds, room.result, b.columns);
  store_columns(s, room.result, room.scales, b.keys, out, at + s.d, stride);
  multiply_tiles(s, s.width, head.n, origin, rows, room.dys_across, room.p, room.result, b.columns);
  store_columns(s, room.result, room.ones, b.keys, out, at + 2 * s.d, stride);
}

// dQ += dS K over a chunk of keys [first, first + keys): sums [tiles][panels][mr][nr].
void add_to_queries(const AttentionShape& s, const Head& head, int64_t first, int64_t keys, const Room& room) {
  const int64_t tiles = divide_up(head.n, s.mr), panel = int64_t(a_panel_bytes(*s.kernel, divide_up(keys, s.nr) * s.nr));
  const int64_t bytes = int64_t(b_panel_bytes(*s.kernel, keys)), panels = divide_up(s.width, s.nr), tile = s.mr * s.nr;
  for (int64_t t = s.causal ? first / s.mr : 0; t < tiles; ++t) {
    const int64_t seen = s.causal ? smaller(keys, (t + 1) * s.mr - first) : keys;
    for (int64_t j = 0; j < panels; ++j) {
      s.kernel->run(padded_k(*s.kernel, seen), room.ds_left + t * panel, room.keys_across + j * bytes,
                    room.dq + (t * panels + j) * tile, first > 0);
    }
  }
}

void store_queries(const AttentionShape& s, const Head& head, const Room& room, Output out) {
  const float* sums = room.dq;
  const vf scale = set(s.scale);
  for (int64_t first = 0; first < head.n; first += s.mr) {
    for (int64_t column = 0; column < s.width; column += s.nr, sums += s.mr * s.nr) {
      const int64_t columns = smaller(s.nr, s.width - column);
      for (int64_t i = 0; i < smaller(s.mr, head.n - first); ++i) {
        const float* from = sums + i * s.nr;
        const int64_t to = (head.row + first + i) * 3 * s.d + head.column + column;
        for_lanes(0, columns, [=](int64_t j, int lanes) { out.put(to + j, scale * load(from + j), lanes); });
      }
    }
  }
}

// dqkv of a head, from its packed queries and dY.
template <bool PAIRS>
void differentiate_keys(const AttentionShape& s, const Head& head, const Room& room, MatrixView k, Output out) {
  const MatrixView v = view_at(k, 0, s.d);
  for (int64_t chunk = 0; chunk < head.n; chunk += kChunkBlocks * s.nr) {
    const int64_t chunk_keys = smaller(kChunkBlocks * s.nr, head.n - chunk);
    pack_right(s, view_at(k, chunk, 0), chunk_keys, s.width, room.keys_across);
    char* ds_left = room.ds_left;
    for (int64_t first = chunk; first < chunk + chunk_keys; first += s.nr, ds_left += left_step(s)) {
      const int64_t keys = smaller(s.nr, head.n - first);
      const Block block{first, keys, columns_for(s, keys), head.n - 1};
      pack_right(s, transposed(view_at(k, first, 0)), s.width, keys, room.keys);
      pack_right(s, transposed(view_at(v, first, 0)), s.width, keys, room.values);
      differentiate_block<PAIRS>(s, head, block, divide_up(chunk_keys, s.nr) * s.nr, ds_left, room, out);
    }
    add_to_queries(s, head, chunk, chunk_keys, room);
  }
  if (head.branch.length > 0) add_slots_to_queries(s, head, room.slots, room.dq);
  store_queries(s, head, room, out);
}

template <bool PAIRS>
bool backward(const AttentionShape& s, const attention_grads& g, const BranchPartials& partials, const Head& head) {
  Room room;
  const int64_t slots = head.branch.length;
  if (g.dqkv == nullptr && slots == 0) return true;
  char* base = static_cast<char*>(thread_scratch(kAttentionScratch, room_for(s, head.n, slots, nullptr, &room)));
  if (base == nullptr) return false;
  room_for(s, head.n, slots, base, &room);
  const MatrixView packed{g.f->qkv, s.type, 3 * s.d, 1}, dys{g.dy, s.type, s.d, 1};
  const MatrixView q = view_at(packed, head.row, head.column), dy = view_at(dys, head.row, head.column);
  pack_left(s, q, head.n, s.width, room.queries);
  pack_left(s, dy, head.n, s.width, room.dys);
  pack_left(s, transposed(q), s.width, head.n, room.queries_across);
  pack_left(s, transposed(dy), s.width, head.n, room.dys_across);
  row_statistics(s, g, head, room);
  if (slots > 0) {
    const QueryPanels panels{room.queries, room.dys, room.queries_across, room.dys_across, room.lse, room.delta};
    differentiate_slots<PAIRS>(s, head, panels, room.slots, partials, room.result, room.ones, room.scales);
  }
  if (g.dqkv != nullptr) differentiate_keys<PAIRS>(s, head, room, view_at(q, 0, s.d), Output(g.dqkv, g.f->type));
  return true;
}

}  // namespace

bool attention_backward_head(const AttentionShape& s, const attention_grads& g, const BranchPartials& partials, const Head& head) {
#if defined(__AVX512BF16__)
  if (s.kernel->pair_block != 0) return backward<true>(s, g, partials, head);
#endif
  return backward<false>(s, g, partials, head);
}

}  // namespace CAMBIUM_LEVEL
}  // namespace cambium

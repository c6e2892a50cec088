// Backward of one head. Queries go a tile (mr of them) at a time against all keys that they see, in blocks of nr:
//   P = 2^(c·Q Kᵀ − lse·log2(e)), c = log2(e)/√K;  dP = dY Vᵀ;  delta = rowsum(P ⊙ dP) / rowsum(P);  dS = P ⊙ (dP − delta)
//   dQ = dS K / √K;  dVᵀ = dYᵀ P;  dKᵀ = Qᵀ dS / √K
// delta is rowsum(dY ⊙ Y) as well (Dao et al. 2022), for which Y would have to be kept until here. With the whole row at
// hand Y is not needed, and dQ of a tile is finished at once. The sum of P is 1 but for the rounding of large scores, which
// dP − delta must not see: where one weight is nearly all, it is the difference of two numbers that are nearly the same.
// P and dS are written as right operands over a chunk of queries, after which dK and dV take them: over all queries where
// those fit the cache, else chunk after chunk.
//
// Slots of a branch (attention_slots.h) have their turn in each tile, before delta is used: a joint softmax adds to it.
//
// Keys behind the last one and queries behind the last one have P = 0 and dS = 0: the products run over whole tiles.
#include "cpu/attention_slots.h"

namespace cambium {
namespace CAMBIUM_LEVEL {
namespace {

constexpr int64_t kChunkBytes = 512 << 10;  // of P and dS: half of a core's L2 cache
constexpr int64_t kChunkRows = 128;         // fewer, and loading the sums of dK and dV would show

struct Room {
  char *queries, *dys, *queries_across, *dys_across;  // left, over all queries: Q, dY by rows; Qᵀ, dYᵀ
  char *keys, *values, *keys_across;                  // right: Kᵀ, Vᵀ by blocks; K
  char *p, *ds, *ds_left;                             // right operands of a chunk by blocks; left operand of a tile
  float *scores, *dscores;                            // a tile, by blocks [mr, nr]
  float *dq, *dk, *dv;                                // a tile; [keep, nr] by blocks, where there are several chunks
  float *lse, *delta, *total, *ones, *scales;         // by query; of a tile; its sums of P; nr factors
  float *weights, *products;                          // sums of P and of P ⊙ dP of a tile, [mr, W]
  SlotRoom slots;
};

// Tiles of queries, blocks of keys, and how many tiles go into a chunk.
struct Cut {
  int64_t tiles, blocks, chunk;
};

Cut cut_of(const AttentionShape& s, int64_t n) {
  const int64_t tiles = divide_up(n, s.mr), blocks = divide_up(n, s.nr);
  const int64_t most = larger(kChunkBytes / (2 * blocks * s.mr * s.nr * int64_t(element_size(s.kernel->type))), kChunkRows / s.mr);
  return {tiles, blocks, divide_up(tiles, divide_up(tiles, most))};
}

size_t room_for(const AttentionShape& s, const Cut& cut, int64_t n, int64_t slots, char* base, Room* r) {
  Pieces pieces{base, 0};
  const int64_t rows = cut.tiles * s.mr, chunk = cut.chunk * s.mr, padded = cut.blocks * s.nr;
  const int64_t results = (cut.chunk < cut.tiles ? cut.blocks : 1) * s.keep * s.nr + W * s.nr;
  r->queries = pieces.take<char>(left_bytes(s, n, s.width));
  r->dys = pieces.take<char>(left_bytes(s, n, s.width));
  r->queries_across = pieces.take<char>(left_bytes(s, s.width, n));
  r->dys_across = pieces.take<char>(left_bytes(s, s.width, n));
  r->keys = pieces.take<char>(right_bytes(s, s.width, n));
  r->values = pieces.take<char>(right_bytes(s, s.width, n));
  r->keys_across = pieces.take<char>(right_bytes(s, n, s.width));
  r->p = pieces.take<char>(right_bytes(s, chunk, padded));
  r->ds = pieces.take<char>(right_bytes(s, chunk, padded));
  r->ds_left = pieces.take<char>(left_bytes(s, s.mr, padded));
  r->scores = pieces.take<float>(s.mr * padded * 4);
  r->dscores = pieces.take<float>(s.mr * padded * 4);
  r->dq = pieces.take<float>(s.mr * divide_up(s.width, s.nr) * s.nr * 4);
  r->dk = pieces.take<float>(results * 4);
  r->dv = pieces.take<float>(results * 4);
  r->lse = pieces.take<float>(rows * 4);
  r->delta = pieces.take<float>(lanes_of(s) * 4);
  r->total = pieces.take<float>(lanes_of(s) * 4);
  r->weights = pieces.take<float>(s.mr * W * 4);
  r->products = pieces.take<float>(s.mr * W * 4);
  r->ones = pieces.take<float>(s.nr * 4);
  r->scales = pieces.take<float>(s.nr * 4);
  take_slots(s, n, slots, pieces, &r->slots);
  return pieces.used;
}

// lse of every query, in powers of two; behind the last one +inf, which makes P zero.
void fill_factors(const AttentionShape& s, const attention_grads& g, const Head& head, const Cut& cut, const Room& room) {
  const float* const lse = g.f->lse + head.index * s.m + head.row;
  for (int64_t i = 0; i < cut.tiles * s.mr; ++i) room.lse[i] = i < head.n ? lse[i] * kLog2E : __builtin_inff();
  for (int64_t c = 0; c < s.nr; ++c) room.ones[c] = 1, room.scales[c] = s.scale;
}

// A block of keys [first, first + keys); columns: those that products compute.
struct Block {
  int64_t index, first, keys, columns;
};

Block block_of(const AttentionShape& s, const Head& head, int64_t index) {
  const int64_t first = index * s.nr, keys = smaller(s.nr, head.n - first);
  return {index, first, keys, columns_for(s, keys)};
}

// Keys that some query of a tile sees.
int64_t seen_by(const AttentionShape& s, const Head& head, int64_t tile) {
  return s.causal ? smaller(head.n, (tile + 1) * s.mr) : head.n;
}

// Scores of a tile and a block become P, and are added to the sums with their P ⊙ dP. MASKED: some keys are behind the last one
// or, in a causal sample, behind their query.
template <bool MASKED>
void weigh_tile(const AttentionShape& s, const Head& head, const Block& b, int64_t row, const Room& room) {
  const vf factor = set(s.scale * kLog2E);
  float* const scores = room.scores + b.index * s.mr * s.nr;
  float* const dscores = room.dscores + b.index * s.mr * s.nr;
  for (int64_t i = 0; i < s.mr; ++i) {
    const vf lse = set(room.lse[row + i]);
    vf weights = load(room.weights + i * W), products = load(room.products + i * W);
    for (int64_t c = 0; c < b.columns; c += W) {
      float *const score = scores + i * s.nr + c, *const dscore = dscores + i * s.nr + c;
      vf p = exp2(fma(factor, load(score), -lse)), dp = load(dscore);
      if (MASKED) {
        const int64_t seen = s.causal ? smaller(row + i, head.n - 1) : head.n - 1;
        const vi open = lane_index() + int32_t(b.first + c) <= int32_t(seen);
        p = open ? p : vf{}, dp = open ? dp : vf{};
        store(dscore, dp);
      }
      store(score, p);
      weights += p;
      products = fma(p, dp, products);
    }
    store(room.weights + i * W, weights);
    store(room.products + i * W, products);
  }
}

// From P and dP of a tile and a block: P and dS as rows from `row` on of the block's right operands, and dS in dP's place.
template <bool PAIRS>
void differentiate_tile(const AttentionShape& s, const Block& b, int64_t row, void* p_right, void* ds_right, const Room& room) {
  const float* const p = room.scores + b.index * s.mr * s.nr;
  float* const dp = room.dscores + b.index * s.mr * s.nr;
  for (int64_t i = 0; i < s.mr; i += 2) {
    for (int64_t c = 0; c < b.columns; c += W) {
      const int64_t at = i * s.nr + c, next = at + s.nr;
      const vf even = load(p + at), odd = load(p + next);
      const vf ds = even * (load(dp + at) - room.delta[i]), also = odd * (load(dp + next) - room.delta[i + 1]);
      store(dp + at, ds);
      store(dp + next, also);
      put_rows<PAIRS>(s, p_right, row + i, c, even, odd);
      put_rows<PAIRS>(s, ds_right, row + i, c, ds, also);
    }
    for (int64_t c = b.columns; c < s.nr; c += W) {  // not computed: nothing comes from there
      store(dp + i * s.nr + c, vf{});
      store(dp + (i + 1) * s.nr + c, vf{});
    }
  }
}

// P and dP of a tile against every block that it sees, and its delta.
void weigh_queries(const AttentionShape& s, const Head& head, int64_t tile, const Room& room) {
  const int64_t k = padded_k(*s.kernel, s.width), left = int64_t(a_panel_bytes(*s.kernel, s.width));
  const int64_t right = int64_t(b_panel_bytes(*s.kernel, s.width)), size = s.mr * s.nr;
  for (int64_t i = 0; i < s.mr; ++i) store(room.weights + i * W, vf{}), store(room.products + i * W, vf{});
  for (int64_t j = 0; j < divide_up(seen_by(s, head, tile), s.nr); ++j) {
    const Block b = block_of(s, head, j);
    const auto run = b.columns < s.nr ? s.kernel->run_half : s.kernel->run;
    run(k, room.queries + tile * left, room.keys + j * right, room.scores + j * size, false);
    run(k, room.dys + tile * left, room.values + j * right, room.dscores + j * size, false);
    const bool masked = b.keys < b.columns || (s.causal && b.first + b.columns > tile * s.mr + 1);
    (masked ? weigh_tile<true> : weigh_tile<false>)(s, head, b, tile * s.mr, room);
  }
  for (int64_t i = 0; i < s.mr; ++i) {
    room.total[i] = sum(load(room.weights + i * W));
    room.delta[i] = room.total[i] == 0 ? 0 : sum(load(room.products + i * W)) / room.total[i];  // behind the last: P = 0
  }
}

// A chunk of queries: tiles [begin, end). Its right operands are by blocks, `operand` bytes each.
struct Chunk {
  int64_t begin, end, operand;
};

// The first tile of a chunk that sees a block.
int64_t first_tile(const AttentionShape& s, const Chunk& c, const Block& b) {
  return s.causal ? larger(c.begin, b.first / s.mr) : c.begin;
}

// dS of a tile, as right operands and, for dQ, as left one.
template <bool PAIRS>
void differentiate_queries(const AttentionShape& s, const Head& head, const Chunk& c, int64_t tile, const Room& room) {
  const int64_t step = s.nr * s.mr * int64_t(element_size(s.kernel->type));  // a left panel's from block to block
  for (int64_t j = 0; j < divide_up(seen_by(s, head, tile), s.nr); ++j) {
    const Block b = block_of(s, head, j);
    const int64_t row = (tile - first_tile(s, c, b)) * s.mr;
    differentiate_tile<PAIRS>(s, b, row, room.p + j * c.operand, room.ds + j * c.operand, room);
    s.kernel->pack_a({room.dscores + j * s.mr * s.nr, Element::f32, s.nr, 1}, s.mr, s.nr, room.ds_left + j * step);
  }
}

void store_queries(const AttentionShape& s, const Head& head, int64_t tile, const Room& room, Output out) {
  const int64_t panels = divide_up(s.width, s.nr), right = int64_t(b_panel_bytes(*s.kernel, head.n));
  const int64_t k = padded_k(*s.kernel, seen_by(s, head, tile)), first = tile * s.mr;
  const vf scale = set(s.scale);
  for (int64_t j = 0; j < panels; ++j) {
    float* const sums = room.dq + j * s.mr * s.nr;
    s.kernel->run(k, room.ds_left, room.keys_across + j * right, sums, false);
    if (head.branch.length > 0) add_slots_to_queries(s, head, room.slots, j, sums);
    for (int64_t i = 0; i < smaller(s.mr, head.n - first); ++i) {
      const float* const from = sums + i * s.nr;
      const int64_t to = (head.row + first + i) * 3 * s.d + head.column + j * s.nr;
      for_lanes(0, smaller(s.nr, s.width - j * s.nr), [=](int64_t c, int lanes) { out.put(to + c, scale * load(from + c), lanes); });
    }
  }
}

// What a chunk adds to dK and dV; the last one stores them.
void differentiate_keys(const AttentionShape& s, const Head& head, const Cut& cut, const Chunk& c, const Room& room, Output out) {
  const int64_t stride = 3 * s.d, step = cut.chunk < cut.tiles ? s.keep * s.nr : 0;
  for (int64_t j = 0; j < cut.blocks; ++j) {
    const Block b = block_of(s, head, j);
    const int64_t tile = first_tile(s, c, b), origin = tile * s.mr, rows = smaller(head.n, c.end * s.mr) - origin;
    if (tile >= c.end) return;
    const bool more = c.begin > 0 && (!s.causal || b.first / s.mr < c.begin);
    float *const dk = room.dk + j * step, *const dv = room.dv + j * step;
    multiply_tiles(s, s.width, head.n, origin, rows, room.queries_across, room.ds + j * c.operand, dk, b.columns, more);
    multiply_tiles(s, s.width, head.n, origin, rows, room.dys_across, room.p + j * c.operand, dv, b.columns, more);
    if (c.end < cut.tiles) continue;
    const int64_t at = (head.row + b.first) * stride + head.column;
    store_columns(s, dk, room.scales, b.keys, out, at + s.d, stride);
    store_columns(s, dv, room.ones, b.keys, out, at + 2 * s.d, stride);
  }
}

// Q and dY of all queries, K and V of all keys.
void pack_head(const AttentionShape& s, const attention_grads& g, const Head& head, bool with_keys, const Room& room) {
  const MatrixView packed{g.f->qkv, s.type, 3 * s.d, 1}, dys{g.dy, s.type, s.d, 1};
  const MatrixView q = view_at(packed, head.row, head.column), k = view_at(q, 0, s.d), v = view_at(k, 0, s.d);
  const MatrixView dy = view_at(dys, head.row, head.column);
  pack_left(s, q, head.n, s.width, room.queries);
  pack_left(s, dy, head.n, s.width, room.dys);
  pack_left(s, transposed(q), s.width, head.n, room.queries_across);
  pack_left(s, transposed(dy), s.width, head.n, room.dys_across);
  if (!with_keys) return;
  pack_right(s, transposed(k), s.width, head.n, room.keys);
  pack_right(s, transposed(v), s.width, head.n, room.values);
  pack_right(s, k, head.n, s.width, room.keys_across);
}

template <bool PAIRS>
bool backward(const AttentionShape& s, const attention_grads& g, const BranchPartials& partials, const Head& head) {
  Room room;
  const int64_t slots = head.branch.length;
  const bool weigh = g.dqkv != nullptr || head.joint;  // else the branch alone trains, and has a softmax of its own
  if (g.dqkv == nullptr && slots == 0) return true;
  const Cut cut = cut_of(s, head.n);
  char* base = static_cast<char*>(thread_scratch(kAttentionScratch, room_for(s, cut, head.n, slots, nullptr, &room)));
  if (base == nullptr) return false;
  room_for(s, cut, head.n, slots, base, &room);
  pack_head(s, g, head, weigh, room);
  fill_factors(s, g, head, cut, room);
  if (slots > 0) pack_slots(s, head, room.slots);
  const Output out(g.dqkv, g.f->type);
  const QueryPanels panels{room.queries, room.dys, room.queries_across, room.dys_across, room.lse, room.delta, room.total};
  for (int64_t begin = 0; begin < cut.tiles; begin += cut.chunk) {
    const Chunk chunk{begin, smaller(cut.tiles, begin + cut.chunk), int64_t(right_bytes(s, cut.chunk * s.mr, s.nr))};
    for (int64_t tile = begin; tile < chunk.end; ++tile) {
      if (weigh) weigh_queries(s, head, tile, room);
      if (slots > 0) differentiate_slot_tile<PAIRS>(s, head, tile, panels, room.slots);
      if (g.dqkv == nullptr) continue;
      differentiate_queries<PAIRS>(s, head, chunk, tile, room);
      store_queries(s, head, tile, room, out);
    }
    if (g.dqkv != nullptr) differentiate_keys(s, head, cut, chunk, room, out);
  }
  if (slots > 0) store_slots(s, head, panels, room.slots, partials, room.dk, room.ones, room.scales);
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

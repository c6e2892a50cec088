// Backward of the slots of a branch, for one head of one sample. Slots go as columns of the micro-kernel, all of them for a
// tile of mr queries: Q and dY are the left panels that the keys' own backward has packed.
//   separate: P = softmax of the slots' scores; dP = dY Vrᵀ; dS = w P ⊙ (dP − rowsum(P ⊙ dP))
//   joint:    P = 2^(c·S − lse); P and P ⊙ dP add to the sums that the keys' delta is of; dS = P ⊙ (dP − delta)
//   dVrᵀ = dYᵀ (w P);  dKrᵀ = Qᵀ dS / √K;  dQ += dS Kr / √K
// Included by attention_backward.cc only.
#pragma once
#include "cpu/attention.h"

namespace cambium {
namespace CAMBIUM_LEVEL {

struct SlotRoom {
  char *keys, *values, *keys_across;  // right: Krᵀ, Vrᵀ in panels of nr slots; Kr
  char *p, *ds, *ds_left;             // right operands over all queries, a panel of nr slots after the other; left, of a tile
  float *scores, *dscores;            // tiles, [panels][mr][nr]
  float *p_by_slot, *ds_by_slot;      // a tile, [slots][lanes_of(s)]
};

// Sums over slots are sums over vectors: a tile's rows and slots are exchanged, [slots][lanes_of(s)].
inline int64_t lanes_of(const AttentionShape& s) { return divide_up(s.mr, W) * W; }

inline void take_slots(const AttentionShape& s, int64_t n, int64_t slots, Pieces& pieces, SlotRoom* r) {
  const int64_t rows = divide_up(n, s.mr) * s.mr, panels = divide_up(slots, s.nr), padded = panels * s.nr;
  r->keys = pieces.take<char>(right_bytes(s, s.width, slots));
  r->values = pieces.take<char>(right_bytes(s, s.width, slots));
  r->keys_across = pieces.take<char>(right_bytes(s, slots, s.width));
  r->p = pieces.take<char>(right_bytes(s, rows, padded));
  r->ds = pieces.take<char>(right_bytes(s, rows, padded));
  r->ds_left = pieces.take<char>(slots > 0 ? left_bytes(s, s.mr, padded) : 0);
  r->scores = pieces.take<float>(s.mr * padded * 4);
  r->dscores = pieces.take<float>(s.mr * padded * 4);
  r->p_by_slot = pieces.take<float>(padded * lanes_of(s) * 4);
  r->ds_by_slot = pieces.take<float>(padded * lanes_of(s) * 4);
}

// What the keys' backward has: left panels over all queries, lse by query (in powers of two), and a tile's delta
// and sums of P.
struct QueryPanels {
  const char *queries, *dys, *queries_across, *dys_across;
  const float* lse;
  float *delta, *total;
};

// W rows of a tile from `row` on; behind its last row there are zeros.
inline void rows_to_lanes(const AttentionShape& s, int64_t slots, const float* tile, int64_t row, float* by_slot) {
  for (int64_t first = 0; first < slots; first += s.nr, tile += s.mr * s.nr) {
    for (int64_t c = 0; c < columns_for(s, slots - first); c += W) {
      vf r[W];
#pragma GCC unroll 16
      for (int t = 0; t < W; ++t) r[t] = row + t < s.mr ? load(tile + (row + t) * s.nr + c) : vf{};
      transpose(r);
#pragma GCC unroll 16
      for (int t = 0; t < W; ++t) store(by_slot + (first + c + t) * lanes_of(s) + row, r[t]);
    }
  }
}

// Own softmax of W rows: scores become w·P and dp becomes dS. dP counts from the heaviest slot's: where that has
// nearly all the weight, dP − δ loses nothing, and a single slot gets a gradient of exactly zero.
CAMBIUM_INLINE void differentiate_separate(const AttentionShape& s, float* scores, float* dp, int64_t slots, vf w) {
  const vf factor = set(s.scale * kLog2E);
  const int64_t lanes = lanes_of(s);
  vf top = load(scores), base = load(dp), total{}, products{};
  for (int64_t j = 1; j < slots; ++j) {
    const vf score = load(scores + j * lanes);
    base = score > top ? load(dp + j * lanes) : base;
    top = max(score, top);
  }
  for (int64_t j = 0; j < slots; ++j) {
    const vf p = exp2(factor * (load(scores + j * lanes) - top)), d = load(dp + j * lanes) - base;
    store(scores + j * lanes, p);
    store(dp + j * lanes, d);
    total += p;
    products = fma(p, d, products);
  }
  const vf inverse = 1.f / total, delta = products * inverse, share = w * inverse;
  for (int64_t j = 0; j < slots; ++j) {
    const vf p = share * load(scores + j * lanes);
    store(scores + j * lanes, p);
    store(dp + j * lanes, p * (load(dp + j * lanes) - delta));
  }
}

// W rows of the joint softmax, from delta and sum of P of the keys alone: scores become P and dp becomes dS; returns delta.
CAMBIUM_INLINE vf differentiate_joint(const AttentionShape& s, float* scores, float* dp, int64_t slots, vf lse, vf delta, vf total) {
  const vf factor = set(s.scale * kLog2E);
  const int64_t lanes = lanes_of(s);
  vf products = delta * total;
  for (int64_t j = 0; j < slots; ++j) {
    const vf p = exp2(fma(factor, load(scores + j * lanes), -lse));
    store(scores + j * lanes, p);
    products = fma(p, load(dp + j * lanes), products);
    total += p;
  }
  delta = total == 0 ? vf{} : products / total;  // behind the last query: P = 0
  for (int64_t j = 0; j < slots; ++j) store(dp + j * lanes, load(scores + j * lanes) * (load(dp + j * lanes) - delta));
  return delta;
}

// W rows of P or dS, from `row` on, as rows of a right operand from `origin` + `row` on.
template <bool PAIRS>
void lanes_to_rows(const AttentionShape& s, int64_t slots, const float* by_slot, int64_t origin, int64_t row, char* right,
                   int64_t operand) {
  for (int64_t first = 0; first < slots; first += s.nr, right += operand) {
    for (int64_t c = 0; c < columns_for(s, slots - first); c += W) {
      vf r[W];
#pragma GCC unroll 16
      for (int t = 0; t < W; ++t) r[t] = first + c + t < slots ? load(by_slot + (first + c + t) * lanes_of(s) + row) : vf{};
      transpose(r);
#pragma GCC unroll 16
      for (int t = 0; t < W; t += 2) {
        if (row + t < s.mr) put_rows<PAIRS>(s, right, origin + row + t, c, r[t], r[t + 1]);
      }
    }
  }
}

// W rows of a tile that begins at query `origin`.
template <bool PAIRS>
void differentiate_slot_rows(const AttentionShape& s, const Head& head, int64_t origin, int64_t row, const QueryPanels& q,
                             const SlotRoom& room) {
  const int64_t slots = head.branch.length, operand = right_bytes(s, divide_up(head.n, s.mr) * s.mr, s.nr);
  const int64_t rows = smaller(W, s.mr - row);
  float *const delta = q.delta + row, *const p = room.p_by_slot + row, *const ds = room.ds_by_slot + row;
  rows_to_lanes(s, slots, room.scores, row, room.p_by_slot);
  rows_to_lanes(s, slots, room.dscores, row, room.ds_by_slot);
  vf lse = set(__builtin_inff()), d{}, total{};  // nothing comes from behind the tile's last row
  if (head.joint) {
    for (int64_t i = 0; i < rows; ++i) lse[i] = q.lse[origin + row + i], d[i] = delta[i], total[i] = q.total[row + i];
    d = differentiate_joint(s, p, ds, slots, lse, d, total);
    for (int64_t i = 0; i < rows; ++i) delta[i] = d[i];
  } else {
    const vi there = lane_index() < int32_t(head.n - origin - row);  // nor from behind the last query
    differentiate_separate(s, p, ds, slots, there ? set(head.branch.weight) : vf{});
  }
  lanes_to_rows<PAIRS>(s, slots, room.p_by_slot, origin, row, room.p, operand);
  lanes_to_rows<PAIRS>(s, slots, room.ds_by_slot, origin, row, room.ds, operand);
}

// dS of a tile's slots, for dQ, and what dKr and dVr take of it.
template <bool PAIRS>
void differentiate_slot_tile(const AttentionShape& s, const Head& head, int64_t tile, const QueryPanels& q,
                             const SlotRoom& room) {
  const int64_t slots = head.branch.length, bytes = int64_t(a_panel_bytes(*s.kernel, s.width));
  const int64_t k = padded_k(*s.kernel, s.width), size = s.mr * s.nr, right = right_bytes(s, s.width, s.nr);
  for (int64_t first = 0, panel = 0; first < slots; first += s.nr, ++panel) {
    const auto run = columns_for(s, slots - first) < s.nr ? s.kernel->run_half : s.kernel->run;
    run(k, q.queries + tile * bytes, room.keys + panel * right, room.scores + panel * size, false);
    run(k, q.dys + tile * bytes, room.values + panel * right, room.dscores + panel * size, false);
  }
  for (int64_t row = 0; row < s.mr; row += W) differentiate_slot_rows<PAIRS>(s, head, tile * s.mr, row, q, room);
  s.kernel->pack_a({room.ds_by_slot, Element::f32, 1, lanes_of(s)}, s.mr, slots, room.ds_left);
}

inline void pack_slots(const AttentionShape& s, const Head& head, const SlotRoom& room) {
  const MatrixView keys = slots_of(s, head.branch.keys, head), values = slots_of(s, head.branch.values, head);
  pack_right(s, transposed(keys), s.width, head.branch.length, room.keys);
  pack_right(s, transposed(values), s.width, head.branch.length, room.values);
  pack_right(s, keys, head.branch.length, s.width, room.keys_across);
}

// dKr and dVr into this sample's partials. `result`, `ones` and `scales`: as in attention_backward.cc.
inline void store_slots(const AttentionShape& s, const Head& head, const QueryPanels& q, const SlotRoom& room,
                        const BranchPartials& partials, float* result, const float* ones, const float* scales) {
  const int64_t slots = head.branch.length;
  const int64_t operand = right_bytes(s, divide_up(head.n, s.mr) * s.mr, s.nr);
  for (int64_t first = 0, panel = 0; first < slots; first += s.nr, ++panel) {
    const int64_t columns = columns_for(s, slots - first), count = smaller(s.nr, slots - first);
    const int64_t at = (head.sample * slots + first) * s.d + head.column;
    if (partials.keys != nullptr) {
      multiply_tiles(s, s.width, head.n, 0, head.n, q.queries_across, room.ds + panel * operand, result, columns);
      store_columns(s, result, scales, count, Output(partials.keys, CB_F32), at, s.d);
    }
    if (partials.values != nullptr) {
      multiply_tiles(s, s.width, head.n, 0, head.n, q.dys_across, room.p + panel * operand, result, columns);
      store_columns(s, result, ones, count, Output(partials.values, CB_F32), at, s.d);
    }
  }
}

// dQ += dS Kr of a tile, panel j of K.
inline void add_slots_to_queries(const AttentionShape& s, const Head& head, const SlotRoom& room, int64_t j, float* dq) {
  const int64_t slots = head.branch.length, bytes = int64_t(b_panel_bytes(*s.kernel, slots));
  s.kernel->run(padded_k(*s.kernel, slots), room.ds_left, room.keys_across + j * bytes, dq, true);
}

}  // namespace CAMBIUM_LEVEL
}  // namespace cambium

// Backward of the slots of a branch, for one head of one sample. Slots go as columns of the micro-kernel, all of them for a
// tile of mr queries: Q and dY are the left panels that the keys' own backward has packed.
//   separate: P = softmax of the slots' scores; dP = dY Vrᵀ; δ = rowsum(P ⊙ dP); dS = w P ⊙ (dP − δ); and since y is
//             O + w·Or, the keys' delta = rowsum(dY ⊙ y) loses w·δ = rowsum(dY ⊙ w·Or): Or itself is not needed
//   joint:    P = 2^(c·S − lse); dS = P ⊙ (dP − delta)
//   dVrᵀ = dYᵀ (w P);  dKrᵀ = Qᵀ dS / √K;  dQ += dS Kr / √K
// Included by attention_backward.cc only.
#pragma once
#include "cpu/attention.h"

namespace cambium {
namespace CAMBIUM_LEVEL {

struct SlotRoom {
  char *keys, *values, *keys_across;  // right: Krᵀ, Vrᵀ in panels of nr slots; Kr
  char *p, *ds, *ds_left;             // right operands over all queries, a panel of nr slots after the other; left operand
  float *scores, *dscores;            // tiles, [panels][mr][nr]
};

inline void take_slots(const AttentionShape& s, int64_t n, int64_t slots, Pieces& pieces, SlotRoom* r) {
  const int64_t rows = divide_up(n, s.mr) * s.mr, panels = divide_up(slots, s.nr), padded = panels * s.nr;
  r->keys = pieces.take<char>(right_bytes(s, s.width, slots));
  r->values = pieces.take<char>(right_bytes(s, s.width, slots));
  r->keys_across = pieces.take<char>(right_bytes(s, slots, s.width));
  r->p = pieces.take<char>(right_bytes(s, rows, padded));
  r->ds = pieces.take<char>(right_bytes(s, rows, padded));
  r->ds_left = pieces.take<char>(slots > 0 ? left_bytes(s, n, padded) : 0);
  r->scores = pieces.take<float>(s.mr * padded * 4);
  r->dscores = pieces.take<float>(s.mr * padded * 4);
}

// What the keys' backward has: left panels over all queries, and by query lse (in powers of two) and delta.
struct QueryPanels {
  const char *queries, *dys, *queries_across, *dys_across;
  const float* lse;
  float* delta;
};

CAMBIUM_INLINE vi slots_from(int64_t first, int64_t slots) { return lane_index() + int32_t(first) < int32_t(slots); }

// Row i of a tile of scores and of dP, across the panels of slots.
struct SlotRow {
  float* tiles;
  int64_t i, mr, nr;
  CAMBIUM_INLINE vf at(int64_t c) const { return load(place(c)); }
  CAMBIUM_INLINE void put(int64_t c, vf x) const { store(place(c), x); }
  CAMBIUM_INLINE float* place(int64_t c) const { return tiles + (c / nr * mr + i) * nr + c % nr; }
};

// Own softmax of a row: scores become w·P and dp becomes dS; returns w·δ. dP counts from the heaviest slot's: where that has
// nearly all the weight, dP − δ loses nothing, and a single slot gets a gradient of exactly zero.
inline float differentiate_separate(SlotRow scores, SlotRow dp, int64_t slots, float factor, float w) {
  vf largest = set(-__builtin_inff());
  for (int64_t c = 0; c < slots; c += W) largest = slots_from(c, slots) ? max(scores.at(c), largest) : largest;
  const float top = max_lane(largest);
  vf heaviest{}, total{}, products{};
  for (int64_t c = 0; c < slots; c += W) heaviest += (scores.at(c) == top) & slots_from(c, slots) ? dp.at(c) : vf{};
  const float base = sum(heaviest);
  for (int64_t c = 0; c < slots; c += W) {
    const vf e = exp2(fma(set(factor), scores.at(c), -set(factor * top)));
    const vf p = slots_from(c, slots) ? e : vf{};
    scores.put(c, p);
    total += p;
    products += p * (dp.at(c) - base);
  }
  const float inverse = 1.f / sum(total), delta = sum(products) * inverse;
  for (int64_t c = 0; c < slots; c += W) {
    const vf p = (w * inverse) * scores.at(c);
    scores.put(c, p);
    dp.put(c, p * (dp.at(c) - base - delta));
  }
  return w * (delta + base);
}

// A row of the joint softmax: scores become P and dp becomes dS.
inline void differentiate_joint(SlotRow scores, SlotRow dp, int64_t slots, float factor, float lse, float delta) {
  for (int64_t c = 0; c < slots; c += W) {
    const vf e = exp2(fma(set(factor), scores.at(c), -set(lse)));
    const vf p = slots_from(c, slots) ? e : vf{};
    scores.put(c, p);
    dp.put(c, p * (dp.at(c) - delta));
  }
}

template <bool PAIRS>
void differentiate_slot_tile(const AttentionShape& s, const Head& head, int64_t tile, const QueryPanels& q,
                             const SlotRoom& room) {
  const int64_t row = tile * s.mr, slots = head.branch.length, bytes = int64_t(a_panel_bytes(*s.kernel, s.width));
  const int64_t right = right_bytes(s, s.width, s.nr), operand = right_bytes(s, divide_up(head.n, s.mr) * s.mr, s.nr);
  char* left = room.ds_left + tile * int64_t(a_panel_bytes(*s.kernel, divide_up(slots, s.nr) * s.nr));
  for (int64_t first = 0, panel = 0; first < slots; first += s.nr, ++panel) {
    const auto run = columns_for(s, slots - first) < s.nr ? s.kernel->run_half : s.kernel->run;
    run(padded_k(*s.kernel, s.width), q.queries + tile * bytes, room.keys + panel * right, room.scores + panel * s.mr * s.nr, false);
    run(padded_k(*s.kernel, s.width), q.dys + tile * bytes, room.values + panel * right, room.dscores + panel * s.mr * s.nr, false);
  }
  for (int64_t i = 0; i < s.mr; ++i) {
    const SlotRow scores{room.scores, i, s.mr, s.nr}, dp{room.dscores, i, s.mr, s.nr};
    const float w = row + i < head.n ? head.branch.weight : 0.f;  // nothing comes from behind the last query
    if (head.joint) differentiate_joint(scores, dp, slots, s.scale * kLog2E, q.lse[row + i], q.delta[row + i]);
    else q.delta[row + i] -= differentiate_separate(scores, dp, slots, s.scale * kLog2E, w);
  }
  for (int64_t first = 0, panel = 0; first < slots; first += s.nr, ++panel) {
    const float *p = room.scores + panel * s.mr * s.nr, *ds = room.dscores + panel * s.mr * s.nr;
    for (int64_t i = 0; i < s.mr; i += 2) {
      for (int64_t c = 0; c < columns_for(s, slots - first); c += W) {
        const float *even = p + i * s.nr + c, *other = ds + i * s.nr + c;
        put_rows<PAIRS>(s, room.p + panel * operand, row + i, c, load(even), load(even + s.nr));
        put_rows<PAIRS>(s, room.ds + panel * operand, row + i, c, load(other), load(other + s.nr));
      }
    }
    const int64_t k = smaller(s.nr, slots - first);
    s.kernel->pack_a({ds, Element::f32, s.nr, 1}, s.mr, k, left + first * s.mr * int64_t(element_size(s.kernel->type)));
  }
}

// dKr and dVr into this sample's partials, and dS for dQ. `result`, `ones` and `scales`: as in attention_backward.cc.
template <bool PAIRS>
void differentiate_slots(const AttentionShape& s, const Head& head, const QueryPanels& q, const SlotRoom& room,
                         const BranchPartials& partials, float* result, const float* ones, const float* scales) {
  const int64_t slots = head.branch.length;
  const MatrixView keys = slots_of(s, head.branch.keys, head), values = slots_of(s, head.branch.values, head);
  pack_right(s, transposed(keys), s.width, slots, room.keys);
  pack_right(s, transposed(values), s.width, slots, room.values);
  pack_right(s, keys, slots, s.width, room.keys_across);
  for (int64_t tile = 0; tile < divide_up(head.n, s.mr); ++tile) differentiate_slot_tile<PAIRS>(s, head, tile, q, room);
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

// dQ += dS Kr: sums [tiles][panels of K][mr][nr].
inline void add_slots_to_queries(const AttentionShape& s, const Head& head, const SlotRoom& room, float* dq) {
  const int64_t slots = head.branch.length, panel = int64_t(a_panel_bytes(*s.kernel, divide_up(slots, s.nr) * s.nr));
  const int64_t bytes = int64_t(b_panel_bytes(*s.kernel, slots)), panels = divide_up(s.width, s.nr), tile = s.mr * s.nr;
  for (int64_t t = 0; t < divide_up(head.n, s.mr); ++t) {
    for (int64_t j = 0; j < panels; ++j, dq += tile) {
      s.kernel->run(padded_k(*s.kernel, slots), room.ds_left + t * panel, room.keys_across + j * bytes, dq, true);
    }
  }
}

}  // namespace CAMBIUM_LEVEL
}  // namespace cambium

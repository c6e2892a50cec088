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

// f(place, slot) for every W slots of a row of tiles: `place` is where they stand behind the row's start in [panels][mr][nr].
template <class F>
CAMBIUM_INLINE void for_slots(const AttentionShape& s, int64_t slots, const F& f) {
  for (int64_t first = 0, panel = 0; first < slots; first += s.nr, panel += s.mr * s.nr) {
    for (int64_t c = 0; c < s.nr && first + c < slots; c += W) {
      f(panel + c, lane_index() + int32_t(first + c) < int32_t(slots));
    }
  }
}

// Own softmax of a row: scores become w·P and dp becomes dS; returns w·δ. dP counts from the heaviest slot's: where that has
// nearly all the weight, dP − δ loses nothing, and a single slot gets a gradient of exactly zero.
CAMBIUM_INLINE float differentiate_separate(const AttentionShape& s, float* scores, float* dp, int64_t slots, float w) {
  const vf factor = set(s.scale * kLog2E);
  vf largest = set(-__builtin_inff()), heaviest{}, total{}, products{};
  for_slots(s, slots, [&](int64_t at, vi slot) { largest = slot ? max(load(scores + at), largest) : largest; });
  const vf top = set(max_lane(largest));
  for_slots(s, slots, [&](int64_t at, vi slot) { heaviest += (load(scores + at) == top) & slot ? load(dp + at) : vf{}; });
  const float base = sum(heaviest);
  for_slots(s, slots, [&](int64_t at, vi slot) {
    const vf e = exp2(factor * (load(scores + at) - top)), p = slot ? e : vf{};
    const vf d = load(dp + at) - base;
    store(scores + at, p);
    store(dp + at, d);
    total += p;
    products = fma(p, d, products);
  });
  const float inverse = 1.f / sum(total), delta = sum(products) * inverse;
  for_slots(s, slots, [&](int64_t at, vi) {
    const vf p = (w * inverse) * load(scores + at);
    store(scores + at, p);
    store(dp + at, p * (load(dp + at) - delta));
  });
  return w * (delta + base);
}

// A row of the joint softmax: scores become P and dp becomes dS.
CAMBIUM_INLINE void differentiate_joint(const AttentionShape& s, float* scores, float* dp, int64_t slots, float lse, float delta) {
  for_slots(s, slots, [&](int64_t at, vi slot) {
    const vf e = exp2(fma(set(s.scale * kLog2E), load(scores + at), -set(lse))), p = slot ? e : vf{};
    store(scores + at, p);
    store(dp + at, p * (load(dp + at) - delta));
  });
}

// Two rows of P and dS as rows of the right operands.
template <bool PAIRS>
CAMBIUM_INLINE void put_slot_rows(const AttentionShape& s, int64_t slots, int64_t operand, int64_t row, const float* p,
                                  const float* ds, const SlotRoom& room) {
  for (int64_t first = 0, panel = 0; first < slots; first += s.nr, ++panel, p += s.mr * s.nr, ds += s.mr * s.nr) {
    for (int64_t c = 0; c < columns_for(s, slots - first); c += W) {
      put_rows<PAIRS>(s, room.p + panel * operand, row, c, load(p + c), load(p + s.nr + c));
      put_rows<PAIRS>(s, room.ds + panel * operand, row, c, load(ds + c), load(ds + s.nr + c));
    }
  }
}

template <bool PAIRS>
void differentiate_slot_tile(const AttentionShape& s, const Head& head, int64_t tile, const QueryPanels& q,
                             const SlotRoom& room) {
  const int64_t row = tile * s.mr, slots = head.branch.length, bytes = int64_t(a_panel_bytes(*s.kernel, s.width));
  const int64_t k = padded_k(*s.kernel, s.width), size = s.mr * s.nr, right = right_bytes(s, s.width, s.nr);
  const int64_t operand = right_bytes(s, divide_up(head.n, s.mr) * s.mr, s.nr);
  for (int64_t first = 0, panel = 0; first < slots; first += s.nr, ++panel) {
    const auto run = columns_for(s, slots - first) < s.nr ? s.kernel->run_half : s.kernel->run;
    run(k, q.queries + tile * bytes, room.keys + panel * right, room.scores + panel * size, false);
    run(k, q.dys + tile * bytes, room.values + panel * right, room.dscores + panel * size, false);
  }
  for (int64_t i = 0; i < s.mr; ++i) {
    float *const scores = room.scores + i * s.nr, *const dp = room.dscores + i * s.nr;
    const float w = row + i < head.n ? head.branch.weight : 0.f;  // nothing comes from behind the last query
    if (head.joint) differentiate_joint(s, scores, dp, slots, q.lse[row + i], q.delta[row + i]);
    else q.delta[row + i] -= differentiate_separate(s, scores, dp, slots, w);
    if (i % 2 != 0) put_slot_rows<PAIRS>(s, slots, operand, row + i - 1, scores - s.nr, dp - s.nr, room);
  }
  char* left = room.ds_left + tile * int64_t(a_panel_bytes(*s.kernel, divide_up(slots, s.nr) * s.nr));
  for (int64_t first = 0; first < slots; first += s.nr, left += s.nr * s.mr * int64_t(element_size(s.kernel->type))) {
    s.kernel->pack_a({room.dscores + first * s.mr, Element::f32, s.nr, 1}, s.mr, smaller(s.nr, slots - first), left);
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

// The low-rank term of a product inside its tasks; see LowRankTerm in gemm.h. `down` and `up` are packed once into panels
// of B. A task multiplies its packed panels of A with `down` first, brings the few columns that result into the form of
// panels of A, and adds their product with `up` to every tile. A row panel that holds rows of several adapters does this
// for each of them, the others' rows being zeros: what is summed into a row does not depend on its neighbours.
#pragma once
#include "../parallel.h"
#include "gemm.h"

namespace cambium {
namespace CAMBIUM_LEVEL {

constexpr int kSlotTerm = kGemmScratch + 3, kSlotTermBlock = kGemmScratch + 4;

inline MatrixView moved(const MatrixView& v, int64_t row, int64_t column) {
  MatrixView p = v;
  const int64_t elements = row * v.row_stride + column * v.column_stride;
  p.data = static_cast<const char*>(v.data) + elements * int64_t(element_size(v.type));
  return p;
}

// down and up in panels, for all adapters, and which of k matters in each panel.
struct PackedTerm {
  const LowRankTerm* term = nullptr;
  const char *down = nullptr, *up = nullptr;
  int64_t down_panels = 0, down_bytes = 0;  // panels of one adapter, bytes of one panel
  int64_t up_panels = 0, up_bytes = 0;
  Span *down_span = nullptr, *up_span = nullptr;  // [panels], in units of k that a kernel can start and end at
  int64_t most = 1;                               // adapters that can meet in one row panel
};

// What a thread keeps of the block of A at hand.
struct TermBlock {
  int32_t* count;    // [panels] adapters of a row panel
  int32_t* adapter;  // [panels][most]
  float* tile;       // [mr][padded_rank]
  char* packed;      // [panels][most] panels of A, padded_rank deep
  int64_t packed_bytes;
};

inline Span aligned(Span s, int64_t unit, int64_t end) {
  if (s.begin >= s.end) return {0, 0};
  const int64_t last = (s.end + unit - 1) / unit * unit;
  return {s.begin / unit * unit, last < end ? last : end};
}

// The union of the ranges of ranks [first, last), or of the ranks whose range meets [first, last).
inline Span rows_of_ranks(const Span* spans, int64_t first, int64_t last, int64_t whole) {
  if (!spans) return {0, whole};
  Span all{whole, 0};
  for (int64_t i = first; i < last; ++i) {
    if (spans[i].begin < all.begin) all.begin = spans[i].begin;
    if (spans[i].end > all.end) all.end = spans[i].end;
  }
  return all;
}
inline Span ranks_of_columns(const Span* spans, int64_t rank, int64_t first, int64_t last) {
  if (!spans) return {0, rank};
  Span all{rank, 0};
  for (int64_t i = 0; i < rank; ++i) {
    if (spans[i].end <= first || spans[i].begin >= last) continue;
    if (i < all.begin) all.begin = i;
    all.end = i + 1;
  }
  return all;
}

// Packs the term of a product [m, n] over k. Returns false when there is no memory.
inline bool pack_term(const MicroKernel& kernel, const LowRankTerm& t, int64_t k, int64_t n, PackedTerm* p) {
  const int64_t nr = kernel.nr, depth = padded_rank(t.rank);
  p->term = &t;
  p->down_panels = (t.computed + nr - 1) / nr;
  p->up_panels = (n + nr - 1) / nr;
  p->down_bytes = int64_t(b_panel_bytes(kernel, k));
  p->up_bytes = int64_t(b_panel_bytes(kernel, depth));
  p->most = !t.adapter ? 1 : t.adapters < kernel.mr ? t.adapters : kernel.mr;
  const int64_t down_all = t.adapters * p->down_panels * p->down_bytes, up_all = t.adapters * p->up_panels * p->up_bytes;
  const size_t spans = size_t(p->down_panels + p->up_panels) * sizeof(Span);
  char* const memory = static_cast<char*>(thread_scratch(kSlotTerm, size_t(down_all + up_all) + spans));
  if (!memory) return false;
  char* const down = memory;
  char* const up = memory + down_all;
  p->down = down;
  p->up = up;
  p->down_span = reinterpret_cast<Span*>(up + up_all);
  p->up_span = p->down_span + p->down_panels;
  for (int64_t i = 0; i < p->down_panels; ++i) {
    const int64_t last = (i + 1) * nr < t.computed ? (i + 1) * nr : t.computed;
    p->down_span[i] = aligned(rows_of_ranks(t.down_rows, i * nr, last, k), kernel.k_unit, padded_k(kernel, k));
  }
  for (int64_t j = 0; j < p->up_panels; ++j)
    p->up_span[j] = aligned(ranks_of_columns(t.up_columns, t.rank, j * nr, (j + 1) * nr), kernel.k_unit, depth);
  const int64_t each = p->down_panels + p->up_panels;
  const PackedTerm& q = *p;
  parallel_for(t.adapters * each, [&, down, up](int64_t task) {
    const int64_t adapter = task / each, i = task % each;
    if (i < q.down_panels) {
      MatrixView v = moved(t.down, 0, i * nr);
      v.data = static_cast<const char*>(v.data) + adapter * t.down_step * int64_t(element_size(v.type));
      const int64_t left = t.computed - i * nr;
      kernel.pack_b(v, k, left < nr ? left : nr, down + (adapter * q.down_panels + i) * q.down_bytes);
    } else {
      const int64_t j = i - q.down_panels, left = n - j * nr;
      MatrixView v = moved(t.up, 0, j * nr);
      v.data = static_cast<const char*>(v.data) + adapter * t.up_step * int64_t(element_size(v.type));
      kernel.pack_b(v, depth, left < nr ? left : nr, up + (adapter * q.up_panels + j) * q.up_bytes);
    }
  });
  return true;
}

inline bool take_block(const PackedTerm& p, const MicroKernel& kernel, int64_t panels, TermBlock* b) {
  const int64_t depth = padded_rank(p.term->rank), lists = (panels * (p.most + 1) * 4 + 63) / 64 * 64;
  const int64_t tile = int64_t(kernel.mr) * depth * 4;
  b->packed_bytes = int64_t(a_panel_bytes(kernel, depth));
  char* const memory =
      static_cast<char*>(thread_scratch(kSlotTermBlock, size_t(lists + tile + panels * p.most * b->packed_bytes)));
  if (!memory) return false;
  b->count = reinterpret_cast<int32_t*>(memory);
  b->adapter = b->count + panels;
  b->tile = reinterpret_cast<float*>(memory + lists);
  b->packed = memory + lists + tile;
  return true;
}

// The adapters of rows [row, row + rows), each once, in order of appearance.
inline int adapters_of(const PackedTerm& p, int64_t row, int rows, int32_t* found) {
  if (!p.term->adapter) {
    found[0] = 0;
    return 1;
  }
  int count = 0;
  for (int64_t r = row; r < row + rows; ++r) {
    const int32_t id = p.term->adapter[r];
    int i = 0;
    while (i < count && found[i] != id) ++i;
    if (id >= 0 && i == count) found[count++] = id;
  }
  return count;
}

// Columns [first, first + columns) of the rows' `between`, from their sums with `down`.
inline void finish_between(const LowRankTerm& t, const float* sums, int64_t ld, int64_t row, int64_t rows, int64_t first,
                           int64_t columns, int32_t id, float* out, int64_t out_ld) {
  const float* const factor = t.factor + id * t.rank + first;
  const float* const offset = t.offset ? t.offset + id * t.rank + first : nullptr;
  for (int64_t r = 0; r < rows; ++r) {
    if (t.adapter && t.adapter[row + r] != id) continue;
    for (int64_t c = 0; c < columns; ++c)
      out[r * out_ld + first + c] = factor[c] * sums[r * ld + c] + (offset ? offset[c] : 0.f);
  }
}

// Fills slot `i` of the block: `between` of a row panel whose packed rows of A are `a`, for each of its adapters.
inline void fill_panel(const PackedTerm& p, const MicroKernel& kernel, const TermBlock& b, int64_t i, const char* a,
                       int64_t row, int rows, bool keep) {
  const LowRankTerm& t = *p.term;
  const int64_t depth = padded_rank(t.rank), nr = kernel.nr, unit_a = kernel.mr * int64_t(element_size(kernel.type)),
                unit_b = nr * int64_t(element_size(kernel.type));
  alignas(64) float sums[32 * 32];
  int32_t* const ids = b.adapter + i * p.most;
  b.count[i] = adapters_of(p, row, rows, ids);
  if (keep && t.adapter)
    for (int64_t r = row; r < row + rows; ++r)
      if (t.adapter[r] < 0)
        for (int64_t c = 0; c < t.computed; ++c) t.between[r * t.rank + c] = 0;
  for (int which = 0; which < b.count[i]; ++which) {
    const int32_t id = ids[which];
    __builtin_memset(b.tile, 0, size_t(rows * depth) * sizeof(float));
    for (int64_t j = 0; j < p.down_panels; ++j) {
      const int64_t left = t.computed - j * nr, columns = left < nr ? left : nr;
      const Span s = p.down_span[j];
      const char* const down = p.down + (id * p.down_panels + j) * p.down_bytes;
      (2 * columns <= nr ? kernel.run_half : kernel.run)(s.end - s.begin, a + s.begin * unit_a, down + s.begin * unit_b,
                                                        sums, false);
      finish_between(t, sums, nr, row, rows, j * nr, columns, id, b.tile, depth);
    }
    for (int64_t r = 0; r < rows; ++r) {
      if (t.adapter && t.adapter[row + r] != id) continue;
      float* const line = t.between + (row + r) * t.rank;
      for (int64_t c = t.computed; c < t.rank; ++c) b.tile[r * depth + c] = line[c];
      if (keep)
        for (int64_t c = 0; c < t.computed; ++c) line[c] = b.tile[r * depth + c];
    }
    kernel.pack_a(MatrixView{b.tile, Element::f32, depth, 1}, rows, depth, b.packed + (i * p.most + which) * b.packed_bytes);
  }
}

// acc += between · up for row panel `i` of the block and column panel `j`.
inline void add_term(const PackedTerm& p, const MicroKernel& kernel, const TermBlock& b, int64_t i, int64_t j, bool half,
                     float* acc) {
  const Span s = p.up_span[j];
  if (s.begin == s.end) return;
  const int64_t size = int64_t(element_size(kernel.type));
  for (int which = 0; which < b.count[i]; ++which) {
    const int64_t slot = i * p.most + which;
    (half ? kernel.run_half : kernel.run)(s.end - s.begin, b.packed + slot * b.packed_bytes + s.begin * kernel.mr * size,
                                          p.up + (b.adapter[slot] * p.up_panels + j) * p.up_bytes + s.begin * kernel.nr * size,
                                          acc, true);
  }
}

}  // namespace CAMBIUM_LEVEL
}  // namespace cambium

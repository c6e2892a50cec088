// Products of whole matrices at one level: B is packed once into panels of nr columns (beforehand or by all threads), a
// task packs a block of rows of A that fits the L2 cache and multiplies it with its panels of B, tile by tile, and
// every tile goes through the epilogue while it is in the L1 cache. Only the order along k touches the bits of a result, and
// that is the same for every task cut.
#include "../parallel.h"
#include "ahead.h"
#include "epilogue.h"
#include "gemm.h"
#include "low_rank.h"

namespace cambium {
namespace CAMBIUM_LEVEL {
namespace {

constexpr int kSlotA = kGemmScratch, kSlotB = kGemmScratch + 1, kSlotPartial = kGemmScratch + 2;
constexpr int64_t kBlockBytesA = 512 << 10;    // of packed A in a task: half of the smallest L2 cache we meet
constexpr int64_t kCacheBytes = 768 << 10;     // what a task may lay claim to of the L2 cache
constexpr int64_t kMostBytesK = 8192;          // of a packed row; longer sums are cut, so that panels stay in the L2 cache
constexpr int64_t kPartialFloats = 8 << 20;    // partial sums kept between two pieces of k, for so many results at once
constexpr int64_t kPackPiece = 256;            // k packed at a time, so that neighbour panels share the lines they read
constexpr int kBlockRows = 112, kBlockPanels = 8, kTailRows = 28, kFewTasks = 16, kLeastColumnPanels = 4;
constexpr int kMostTile = 32 * 32;

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }
int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

// The tasks of one product: blocks of row panels, big ones first and small ones last so that threads finish together,
// each times a few groups of column panels when the rows alone give too few tasks.
struct Cut {
  int64_t row_panels, column_panels, big, small, big_blocks, blocks, groups, group;

  Cut(const MicroKernel& m, int64_t rows, int64_t columns, int64_t k)
      : row_panels(divide_up(rows, m.mr)), column_panels(divide_up(columns, m.nr)) {
    const int64_t fitting = larger(1, kBlockBytesA / int64_t(a_panel_bytes(m, k)));
    big = smaller(fitting, larger(kBlockRows / m.mr, kBlockPanels));
    small = smaller(big, larger(1, kTailRows / m.mr));
    big_blocks = row_panels * 7 / 8 / big;
    blocks = big_blocks + divide_up(row_panels - big_blocks * big, small);
    const int64_t wanted = blocks < kFewTasks ? divide_up(kFewTasks, larger(blocks, 1)) : 1;
    group = larger(divide_up(column_panels, wanted), smaller(column_panels, kLeastColumnPanels));
    groups = divide_up(column_panels, group);
  }
  int64_t tasks() const { return blocks * groups; }
  int64_t first_row_panel(int64_t block) const {
    return block <= big_blocks ? block * big : smaller(row_panels, big_blocks * big + (block - big_blocks) * small);
  }
};

struct Product {
  uint64_t id;           // no other product of this process has it
  const GemmCall& call;
  const MicroKernel& kernel;
  const char* b;         // packed panels of this piece of k
  int64_t b_stride;      // bytes from one panel of B to the next
  int64_t k0, k;         // the piece of k
  int64_t row0, rows;    // the piece of the rows
  float* partial;        // [row panel][column panel][mr * nr], or null when the piece is the whole of k
  bool first, last;
  int* failed;
  const PackedTerm* term;  // or null
};

// Packs `panels` panels of A (rows from `row` on) into `block`, a piece of k at a time.
void pack_block_a(const Product& p, int64_t row, int64_t end_row, char* block, int64_t stride) {
  const MicroKernel& m = p.kernel;
  const int64_t unit = int64_t(m.mr) * int64_t(element_size(m.type));
  for (int64_t k = 0; k < p.k; k += kPackPiece) {
    char* panel = block + k * unit;
    for (int64_t r = row; r < end_row; r += m.mr, panel += stride)
      m.pack_a(moved(p.call.a, r, p.k0 + k), smaller(m.mr, end_row - r), smaller(kPackPiece, p.k - k), panel);
  }
}

// The block of A that the calling thread packed last. Tasks of one block follow each other: often it is the one wanted.
struct PackedBlock {
  uint64_t product;
  int64_t block;
};
thread_local PackedBlock packed_last = {0, 0};
uint64_t products = 0;

// `keep`: this task is the one that writes the term's `between` to memory. Between the kernel's enter and leave.
const char* packed_block_a(const Product& p, const Cut& cut, int64_t block, bool keep, TermBlock* term) {
  const int64_t first = cut.first_row_panel(block), end = cut.first_row_panel(block + 1), mr = p.kernel.mr;
  const int64_t stride = int64_t(a_panel_bytes(p.kernel, p.k)), end_row = p.row0 + p.rows;
  char* const a = static_cast<char*>(thread_scratch(kSlotA, size_t((end - first) * stride)));
  if (!a || (p.term && !take_block(*p.term, p.kernel, end - first, term))) {
    __atomic_store_n(p.failed, 1, __ATOMIC_RELAXED);
    return nullptr;
  }
  if (packed_last.product != p.id || packed_last.block != block) {
    pack_block_a(p, p.row0 + first * mr, smaller(end_row, p.row0 + end * mr), a, stride);
    for (int64_t i = first; p.term && i < end; ++i) {
      const int64_t row = p.row0 + i * mr;
      fill_panel(*p.term, p.kernel, *term, i - first, a + (i - first) * stride, row, int(smaller(mr, end_row - row)), keep);
    }
  }
  packed_last = {p.id, block};
  return a;
}

void run_task(const Product& p, const Cut& cut, int64_t task) {
  const MicroKernel& m = p.kernel;
  const int64_t block = task / cut.groups, group = task % cut.groups;
  const int64_t first = cut.first_row_panel(block), end = cut.first_row_panel(block + 1);
  const int64_t a_stride = int64_t(a_panel_bytes(m, p.k)), depth = padded_k(m, p.k), tile = int64_t(m.mr) * m.nr;
  const int64_t end_row = p.row0 + p.rows, first_panel = group * cut.group;
  const int64_t end_panel = smaller(first_panel + cut.group, cut.column_panels);
  alignas(64) float on_stack[kMostTile];
  if (m.enter) m.enter();
  TermBlock term;
  const char* const a = packed_block_a(p, cut, block, group == 0, &term);
  // The next panel of B comes to the L2 cache meanwhile, where there is room for it beside this one and the block of A.
  const bool room = (end - first) * a_stride + 2 * p.b_stride <= kCacheBytes;
  Shares next_b = shares_of(room ? p.b_stride : 0, end - first, m.mr);
  for (int64_t j = first_panel; a && j < end_panel; ++j) {
    const int64_t column = j * m.nr;
    const int columns = int(smaller(m.nr, p.call.n - column));
    const bool half = 2 * columns <= m.nr;
    const char* const b = p.b + j * p.b_stride;
    next_b.data = p.b + (j + 1 < end_panel ? j + 1 : first_panel) * p.b_stride;  // behind the last one, for the next block
    for (int64_t i = first; i < end; ++i) {
      const int64_t row = p.row0 + i * m.mr;
      const int rows = int(smaller(m.mr, end_row - row));
      float* const acc = p.partial ? p.partial + (i * cut.column_panels + j) * tile : on_stack;
      const char* const rows_of_a = a + (i - first) * a_stride;
      if (half) m.run_half(depth, rows_of_a, b, acc, !p.first);
      else if (!p.last) m.run(depth, rows_of_a, b, acc, !p.first);
      else {
        Ahead ahead = lines_of_tile(p.call, row, rows, column, columns);
        add_share(next_b, i - first, &ahead);
        (rows <= m.short_rows ? m.run_short_ahead : m.run_ahead)(depth, rows_of_a, b, acc, !p.first, ahead);
      }
      if (p.term && p.last) add_term(*p.term, m, term, i - first, j, half, acc);
      if (p.last) finish_tile(p.call, acc, m.nr, row, rows, column, columns);
    }
  }
  if (m.leave) m.leave();
}

// Packs [k0, k0 + k) of B into panels `stride` bytes apart.
void pack_panels_b(const MicroKernel& m, const MatrixView& b, int64_t k0, int64_t k, int64_t n, char* packed,
                   int64_t stride) {
  const int64_t panels = divide_up(n, m.nr), at_once = 8, groups = divide_up(panels, at_once);
  const int64_t unit = int64_t(m.nr) * int64_t(element_size(m.type));
  parallel_for(groups * divide_up(k, kPackPiece), [&](int64_t task) {
    const int64_t i = task / groups * kPackPiece, group = task % groups;
    for (int64_t j = group * at_once; j < smaller(panels, (group + 1) * at_once); ++j)
      m.pack_b(moved(b, k0 + i, j * m.nr), smaller(kPackPiece, k - i), smaller(m.nr, n - j * m.nr),
               packed + j * stride + i * unit);
  });
}

// What is left of the epilogue when there is nothing to sum.
void finish_zeros(const GemmCall& call) {
  const float zeros[64] = {};
  for (int64_t row = 0; row < call.m; ++row)
    for (int64_t column = 0; column < call.n; column += 64)
      finish_tile(call, zeros, 64, row, 1, column, int(smaller(64, call.n - column)));
}

// All pieces of k for rows [row0, row0 + rows). Without a packed matrix each piece of B is packed on the way.
int run_rows(const GemmCall& call, const MicroKernel& m, int64_t row0, int64_t rows, int64_t piece,
             const PackedTerm* term) {
  const char* const whole_b = static_cast<const char*>(call.packed_b);
  const int64_t unit_b = int64_t(m.nr) * int64_t(element_size(m.type)), column_panels = divide_up(call.n, m.nr);
  const Cut cut(m, rows, call.n, piece);
  const bool pieces = piece < call.k;
  float* partial = nullptr;
  if (pieces) {
    const size_t floats = size_t(cut.row_panels * column_panels) * size_t(m.mr * m.nr);
    partial = static_cast<float*>(thread_scratch(kSlotPartial, floats * sizeof(float)));
    if (!partial) return 1;
  }
  int failed = 0;
  for (int64_t k0 = 0; k0 < call.k && !failed; k0 += piece) {
    const int64_t k = smaller(piece, call.k - k0);
    const char* b = whole_b ? whole_b + k0 * unit_b : nullptr;
    const int64_t b_stride = int64_t(b_panel_bytes(m, whole_b ? call.k : k));
    if (!b) {
      char* const packed = static_cast<char*>(thread_scratch(kSlotB, size_t(column_panels * b_stride)));
      if (!packed) return 1;
      pack_panels_b(m, call.b, k0, k, call.n, packed, b_stride);
      b = packed;
    }
    const uint64_t id = __atomic_add_fetch(&products, 1, __ATOMIC_RELAXED);
    const Product p{id, call, m, b, b_stride, k0, k, row0, rows, partial, k0 == 0, k0 + k == call.k, &failed,
                    k0 + k == call.k ? term : nullptr};
    parallel_for(cut.tasks(), [&](int64_t task) { run_task(p, cut, task); });
  }
  return failed;
}

int gemm(const GemmCall& call);

// Rows [row, end) of one adapter.
int between_rows(const MatrixView& a, const LowRankTerm& t, Span rows, int64_t k, Element product, int64_t at) {
  const int64_t m = rows.end - rows.begin;
  const int32_t id = t.adapter ? t.adapter[rows.begin] : 0;
  if (id < 0) {
    for (int64_t r = rows.begin; r < rows.end; ++r)
      for (int64_t c = at; c < at + t.computed; ++c) t.between[r * t.rank + c] = 0;
    return 0;
  }
  // The sums lie where `between` of no other product does: a plain product uses neither of the term's slots.
  float* const sums = static_cast<float*>(thread_scratch(kSlotTermBlock, size_t(m * t.computed) * sizeof(float)));
  if (!sums) return 1;
  GemmCall call{};
  call.a = moved(a, rows.begin, 0);
  call.b = t.down;
  call.b.data = static_cast<const char*>(t.down.data) + id * t.down_step * int64_t(element_size(t.down.type));
  call.m = m, call.n = t.computed, call.k = k;
  call.c = sums, call.c_type = Element::f32, call.product = product;
  if (gemm(call) != 0) return 1;
  finish_between(t, sums, t.computed, rows.begin, m, at, t.computed, id, t.between + rows.begin * t.rank, t.rank);
  return 0;
}

int between(const MatrixView& a, const LowRankTerm& term, int64_t m, int64_t k, Element product, int64_t at) {
  for (int64_t row = 0; row < m && term.computed > 0;) {
    int64_t end = term.adapter ? row + 1 : m;
    while (term.adapter && end < m && term.adapter[end] == term.adapter[row]) ++end;
    if (const int status = between_rows(a, term, {row, end}, k, product, at)) return status;
    row = end;
  }
  return 0;
}

int gemm(const GemmCall& call) {
  if (call.m <= 0 || call.n <= 0) return 0;
  if (call.k <= 0) {
    finish_zeros(call);
    return 0;
  }
  const MicroKernel& m = micro_kernel(call.product);
  const int64_t unit = larger(m.k_unit, 32), most_k = kMostBytesK / int64_t(element_size(m.type));
  const int64_t piece = divide_up(divide_up(call.k, divide_up(call.k, most_k)), unit) * unit;
  const bool pieces = piece < call.k;
  LowRankTerm term;
  PackedTerm packed;
  if (call.term) {
    term = *call.term;
    // A row of A that is cut into pieces is never whole in a task: then `between` is a product of its own.
    if (pieces) {
      if (between(call.a, term, call.m, call.k, call.product, 0) != 0) return 1;
      term.computed = 0;
    }
    if (!pack_term(m, term, call.k, call.n, &packed)) return 1;
  }
  const int64_t padded_n = divide_up(call.n, m.nr) * m.nr;
  const int64_t most_rows = pieces ? larger(1, kPartialFloats / padded_n / m.mr) * m.mr : call.m;
  for (int64_t row = 0; row < call.m; row += most_rows) {
    const int status = run_rows(call, m, row, smaller(most_rows, call.m - row), piece, call.term ? &packed : nullptr);
    if (status) return status;
  }
  return 0;
}

size_t packed_b_bytes(int64_t k, int64_t n, Element product) {
  const MicroKernel& m = micro_kernel(product);
  return k <= 0 || n <= 0 ? 0 : size_t(divide_up(n, m.nr)) * b_panel_bytes(m, k);
}

int pack_matrix_b(const MatrixView& b, int64_t k, int64_t n, Element product, void* packed) {
  const MicroKernel& m = micro_kernel(product);
  if (k > 0 && n > 0) pack_panels_b(m, b, 0, k, n, static_cast<char*>(packed), int64_t(b_panel_bytes(m, k)));
  return 0;
}

}  // namespace

const GemmTable& gemm_table() {
  static constexpr GemmTable table = {gemm, between, packed_b_bytes, pack_matrix_b};
  return table;
}

}  // namespace CAMBIUM_LEVEL
}  // namespace cambium

// Matrix products on the CPU: C[M,N] = epilogue(A[M,K] · B[K,N]), from packed panels and one micro-kernel per level.
// Plain structs only: this header is included by units compiled for different instruction sets.
#pragma once
#include <cstddef>
#include <cstdint>

#include "../element.h"
#include "../level.h"

namespace cambium {

// A matrix in memory. Element (i, j) stands at data[i * row_stride + j * column_stride]; one of the strides is 1.
struct MatrixView {
  const void* data;
  Element type;
  int64_t row_stride, column_stride;
};

// Lines that a micro-kernel asks for while it works, so that its time hides theirs: `rows` rows of up to kAheadArrays arrays,
// `bytes` from each row on. Evenly over k: all at once they would wait for each other, and the product for them. The first
// `near` arrays are used at once, at most kAheadTile; the others come later and go no nearer than the L2 cache.
constexpr int kAheadTile = 4, kAheadArrays = kAheadTile + 1;
struct Ahead {
  const char* row[kAheadArrays];
  int64_t stride[kAheadArrays];
  int bytes[kAheadArrays];
  int arrays, near, rows;
};

// One micro-kernel: acc[mr][nr] (f32, row-major, contiguous) = or += A panel (mr rows) · B panel (nr columns) over k.
// Panels are written by the pack functions below; k is padded with zeros to a multiple of k_unit.
struct MicroKernel {
  const char* name;
  int mr, nr, k_unit;
  Element type;  // element of the packed panels: f32, or bf16 for the dot-product kernels (k_unit 2, amx 32)
  void (*run)(int64_t k, const void* a, const void* b, float* acc, bool accumulate);  // k: padded_k
  void (*run_ahead)(int64_t k, const void* a, const void* b, float* acc, bool accumulate, const Ahead& ahead);
  // The same when at most nr / 2 columns are wanted: the other half of acc (ld still nr) is left as it was.
  void (*run_half)(int64_t k, const void* a, const void* b, float* acc, bool accumulate);
  // Panels go along k: element k0 (a multiple of k_unit) starts at byte k0 * mr (or nr) * element_size(type), so a
  // panel may be packed and used in pieces.
  // Packs rows [0, rows) (rows <= mr) of an [rows, k] matrix, converting from view.type; missing rows are zeros.
  void (*pack_a)(const MatrixView& view, int64_t rows, int64_t k, void* panel);
  // Packs columns [0, columns) (columns <= nr) of a [k, columns] matrix; missing columns are zeros.
  void (*pack_b)(const MatrixView& view, int64_t k, int64_t columns, void* panel);
  void (*enter)();  // thread state (AMX tile configuration) around a run of calls; may be null
  void (*leave)();
  // Pairs of rows of B that stand together for 16 columns, before the next 16 columns follow; 0: panels are not of pairs,
  // and row k of B is nr floats at k * nr. For operands that are written in place, as attention's are.
  int pair_block;  // a power of two
  // The same when at most `short_rows` rows are wanted (0: there is no such kernel): the others of acc are left as they were.
  int short_rows = 0;
  void (*run_short)(int64_t k, const void* a, const void* b, float* acc, bool accumulate) = nullptr;
  void (*run_short_half)(int64_t k, const void* a, const void* b, float* acc, bool accumulate) = nullptr;
  void (*run_short_ahead)(int64_t k, const void* a, const void* b, float* acc, bool accumulate, const Ahead& ahead) = nullptr;
};
static inline int64_t padded_k(const MicroKernel& m, int64_t k) { return (k + m.k_unit - 1) / m.k_unit * m.k_unit; }
static inline size_t a_panel_bytes(const MicroKernel& m, int64_t k) {
  return size_t(padded_k(m, k)) * size_t(m.mr) * element_size(m.type);
}
static inline size_t b_panel_bytes(const MicroKernel& m, int64_t k) {
  return size_t(padded_k(m, k)) * size_t(m.nr) * element_size(m.type);
}

// What happens to the product before it is stored. Everything is optional (null or 0 = absent). For row i, column j:
//   raw[i,j] = product;  t = scale · column_scale[j] · product + bias[j];  pre[i,j] = t;
//   t = activation(t)  [backward: t *= activation'(derivative_of[i,j])]
//   c[i,j] = t + residual[i,j] + skip[i,j]  (+ c[i,j] when accumulate)
struct Epilogue {
  const float* scale = nullptr;   // device scalar: the gate. The caller handles zero; a kernel need not test it
  const float* column_scale = nullptr;  // [N]
  void* raw = nullptr;                  // [M,N], the product as it is, saved for backward
  Element raw_type = Element::f32;
  const float* bias = nullptr;    // [N]
  int32_t activation = 0;         // 0 none, 1 quick_gelu x·σ(1.702x), 2 gelu (erf)
  void* pre = nullptr;            // [M,N], type of c's element `pre_type`, saved for backward
  Element pre_type = Element::f32;
  const void* derivative_of = nullptr;  // [M,N] pre-activation of the producer; multiplies by activation'
  Element derivative_type = Element::f32;
  const void* residual = nullptr;  // [M,N] contiguous
  Element residual_type = Element::f32;
  const void* skip = nullptr;      // [M,N] contiguous
  Element skip_type = Element::f32;
  bool accumulate = false;         // c += …
};

struct Span {
  int64_t begin, end;
};

// A low-rank term of a product: C = epilogue(A·B + between·up), between = factor ∘ (A·down) + offset, f32 [M, rank].
// Each row belongs to one of several adapters (or to none: its row of `between` is zero), each with its own down, up,
// factor and offset. `down` reads the panels of A that the product packs anyway, and `up` goes on summing into the
// product's accumulators: neither costs a pass over A or C.
struct LowRankTerm {
  int64_t rank;
  int64_t computed;               // columns of `between` that are made here; the caller has filled the others
  MatrixView down;                // [K, computed] of adapter 0
  MatrixView up;                  // [padded_rank, N] of adapter 0, f32; zeros from row `rank` on
  int64_t adapters;
  int64_t down_step, up_step;     // elements from one adapter to the next
  const float *factor, *offset;   // [adapters, rank]; offset may be null
  const int32_t* adapter;         // [M], -1: none; null: every row has adapter 0
  float* between;                 // [M, rank], kept for the caller
  const Span *down_rows, *up_columns;  // [rank] where a column of down, a row of up is not zero; null: anywhere
};
constexpr int64_t kRankUnit = 32;  // every kernel packs 32 of k at its best
static inline int64_t padded_rank(int64_t rank) { return (rank + kRankUnit - 1) / kRankUnit * kRankUnit; }

// The result: c[M,N] row-major with ld == N.
struct GemmCall {
  MatrixView a;            // [M,K]
  MatrixView b;            // [K,N]; ignored when packed_b is given
  const void* packed_b;    // from pack_matrix_b, or null: packed on the way
  int64_t m, n, k;
  void* c;
  Element c_type;
  Element product;         // f32: operands in f32. bf16: operands rounded to bf16 (nearest even), accumulation in f32
  Epilogue epilogue;
  const LowRankTerm* term;  // or null; not with k == 0
};

struct GemmTable {
  int (*gemm)(const GemmCall& call);                          // 0 ok, 1 out of memory
  // Fills the columns [at, at + term.computed) of term.between alone, from a [m, k].
  int (*between)(const MatrixView& a, const LowRankTerm& term, int64_t m, int64_t k, Element product, int64_t at);
  size_t (*packed_b_bytes)(int64_t k, int64_t n, Element product);
  int (*pack_matrix_b)(const MatrixView& b, int64_t k, int64_t n, Element product, void* packed);
};

// The micro-kernel for a product at the level in force, or at a given one. Also used directly by attention. At levels
// without a bf16 dot product, Element::bf16 gives an f32 kernel whose pack functions round to bf16 first.
const MicroKernel& micro_kernel(Element product);
const MicroKernel& micro_kernel_at(Level level, Element product);

#define CAMBIUM_DECLARE_GEMM_LEVEL(level) \
  namespace level {                       \
  const GemmTable& gemm_table();          \
  }
CAMBIUM_DECLARE_GEMM_LEVEL(portable)
CAMBIUM_DECLARE_GEMM_LEVEL(avx2)
CAMBIUM_DECLARE_GEMM_LEVEL(avx512)
CAMBIUM_DECLARE_GEMM_LEVEL(avx512_bf16)
#undef CAMBIUM_DECLARE_GEMM_LEVEL
}  // namespace cambium

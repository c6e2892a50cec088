// The bf16 micro-kernel on AMX tiles: 32 × 32 results in four tiles, 32 of k per step.
//   A panel  [k / 32][2 row halves][16 rows][32 k]          one tile per half
//   B panel  [k / 32][2 column halves][16 pairs][16 columns][2]
// Tiles: 0..3 results (row half · 2 + column half), 4 and 5 A, 6 and 7 B. The tile configuration belongs to the thread
// between enter and leave; leave gives it back, so that the system need not save tiles afterwards.
#include "ahead.h"
#include "pack_pairs.h"
#if defined(CAMBIUM_HOLLOW_TILES)
#include "hollow_tiles.h"
#else
#include <immintrin.h>
#endif

namespace cambium {
namespace CAMBIUM_LEVEL {
namespace {

constexpr int kRows = 32, kColumns = 32, kTileBytes = 1024, kStepBytes = 2 * kTileBytes;
constexpr int64_t kAccStride = kColumns * int64_t(sizeof(float));

struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
static_assert(sizeof(TileConfig) == 64, "the layout of LDTILECFG's operand");

// In memory as a whole: GCC's intrinsic tells the compiler of 8 of the 64 bytes that are read, and of a configuration on the
// stack the other stores are dropped.
constexpr TileConfig kConfig;

void enter() { _tile_loadconfig(&kConfig); }
void leave() { _tile_release(); }

// At each step of k, the next rows of `ahead` are asked for.
CAMBIUM_INLINE void multiply(int64_t k, const void* a_panel, const void* b_panel, float* acc, bool accumulate,
                             const Ahead* ahead) {
  const char* a = static_cast<const char*>(a_panel);
  const char* b = static_cast<const char*>(b_panel);
  float* const lower = acc + 16 * kColumns;
  if (accumulate) {
    _tile_loadd(0, acc, kAccStride);
    _tile_loadd(1, acc + 16, kAccStride);
    _tile_loadd(2, lower, kAccStride);
    _tile_loadd(3, lower + 16, kAccStride);
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  const int rows_a_step = ahead ? int((ahead->rows * kBlockK + k - 1) / k) : 0;
  int row = 0;
  for (; k > 0; k -= kBlockK, a += kStepBytes, b += kStepBytes) {
    for (int i = 0; i < rows_a_step && row < ahead->rows; ++i) ask_for_row(*ahead, row++);
    _tile_loadd(6, b, 64);
    _tile_loadd(4, a, 64);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(5, a + kTileBytes, 64);
    _tile_dpbf16ps(2, 5, 6);
    _tile_loadd(7, b + kTileBytes, 64);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(3, 5, 7);
  }
  _tile_stored(0, acc, kAccStride);
  _tile_stored(1, acc + 16, kAccStride);
  _tile_stored(2, lower, kAccStride);
  _tile_stored(3, lower + 16, kAccStride);
}

void run(int64_t k, const void* a, const void* b, float* acc, bool accumulate) { multiply(k, a, b, acc, accumulate, nullptr); }
void run_ahead(int64_t k, const void* a, const void* b, float* acc, bool accumulate, const Ahead& ahead) {
  multiply(k, a, b, acc, accumulate, &ahead);
}

void run_half(int64_t k, const void* a_panel, const void* b_panel, float* acc, bool accumulate) {
  const char* a = static_cast<const char*>(a_panel);
  const char* b = static_cast<const char*>(b_panel);
  float* const lower = acc + 16 * kColumns;
  if (accumulate) {
    _tile_loadd(0, acc, kAccStride);
    _tile_loadd(2, lower, kAccStride);
  } else {
    _tile_zero(0);
    _tile_zero(2);
  }
  for (; k > 0; k -= kBlockK, a += kStepBytes, b += kStepBytes) {
    _tile_loadd(6, b, 64);
    _tile_loadd(4, a, 64);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(5, a + kTileBytes, 64);
    _tile_dpbf16ps(2, 5, 6);
  }
  _tile_stored(0, acc, kAccStride);
  _tile_stored(2, lower, kAccStride);
}

void store_block(const Pairs (&r)[16], char* tile) {
  for (int i = 0; i < 16; ++i) __builtin_memcpy(tile + 64 * i, &r[i], 64);
}

// One tile of A: row i holds 32 k of lane i, so pair vectors are turned, and rows that run along k are only copied.
void pack_tile_a(const PairSource& s, int lanes, int k, char* tile) {
  Pairs r[16];
  if (s.k_stride == 1) {
    for (int i = 0; i < 16; ++i) {
      r[i] = i >= lanes ? Pairs{} : k >= kBlockK ? pairs_along_k(at(s, i, 0), s.type) : pairs_along_k(at(s, i, 0), s.type, k);
    }
  } else {
    pair_block(s, lanes, k, r);
    transpose_pairs(r);
  }
  store_block(r, tile);
}

void pack_tile_b(const PairSource& s, int lanes, int k, char* tile) {
  Pairs r[16];
  pair_block(s, lanes, k, r);
  store_block(r, tile);
}

template <class PackTile>
void pack_panel(const PairSource& s, int lanes, int64_t k, void* panel, PackTile pack_tile) {
  char* p = static_cast<char*>(panel);
  for (int64_t i = 0; i < k; i += kBlockK, p += kStepBytes) {
    const int depth = k - i < kBlockK ? int(k - i) : kBlockK;
    prefetch_next(shifted(s, 0, i), lanes, 32);
    pack_tile(shifted(s, 0, i), lanes < 16 ? lanes : 16, depth, p);
    pack_tile(shifted(s, 16, i), lanes < 16 ? 0 : lanes - 16, depth, p + kTileBytes);
  }
}

void pack_a(const MatrixView& v, int64_t rows, int64_t k, void* panel) {
  pack_panel(rows_of(v), int(rows), k, panel, pack_tile_a);
}
void pack_b(const MatrixView& v, int64_t k, int64_t columns, void* panel) {
  pack_panel(columns_of(v), int(columns), k, panel, pack_tile_b);
}

const MicroKernel kKernel = {"amx bf16", kRows, kColumns, kBlockK, Element::bf16, run, run_ahead, run_half, pack_a, pack_b,
                             enter, leave, kPairs};

}  // namespace

const MicroKernel& micro_kernel_bf16() { return kKernel; }

}  // namespace CAMBIUM_LEVEL
}  // namespace cambium

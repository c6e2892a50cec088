// AMX tiles in plain C++, as the manual has them (Intel SDM volume 2: LDTILECFG, TILELOADD, TILESTORED, TILEZERO, TDPBF16PS,
// TILERELEASE). What a processor refuses is told and ends the program.
#pragma once
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <immintrin.h>

namespace cambium_test {

class TileUnit {
 public:
  void configure(const uint8_t* config) {
    released();
    if (config[0] == 0) return;
    require(config[0] == 1, "palette 0 or 1 expected");
    for (int i = 2; i < 64; ++i) {
      const bool reserved = i < 16 || (i >= 32 && i < 48) || i >= 56;
      require(!reserved || config[i] == 0, "reserved bytes of the configuration must be zero");
    }
    for (int t = 0; t < 8; ++t) {
      std::memcpy(&row_bytes_[t], config + 16 + 2 * t, 2);
      rows_[t] = config[48 + t];
      require(rows_[t] <= 16 && row_bytes_[t] <= 64, "a tile has at most 16 rows of 64 bytes");
      require((rows_[t] == 0) == (row_bytes_[t] == 0), "a tile has rows and bytes, or neither");
    }
    configured_ = true;
  }

  void released() {
    configured_ = false;
    std::memset(rows_, 0, sizeof rows_);
    std::memset(row_bytes_, 0, sizeof row_bytes_);
    std::memset(data_, 0, sizeof data_);
  }

  void zero(int t) {
    require_tile(t);
    std::memset(data_[t], 0, sizeof data_[t]);
  }

  void load(int t, const uint8_t* base, int64_t stride) {
    zero(t);
    for (int r = 0; r < rows_[t]; ++r) std::memcpy(data_[t][r], base + r * stride, row_bytes_[t]);
  }

  void store(int t, uint8_t* base, int64_t stride) const {
    require_tile(t);
    for (int r = 0; r < rows_[t]; ++r) std::memcpy(base + r * stride, data_[t][r], row_bytes_[t]);
  }

  // dst[m][n] += (sum over k of a[m][2k] b[k][2n]) + (sum over k of a[m][2k+1] b[k][2n+1]), each step fused, rounded to nearest
  // even, denormals taken and left as zero, whatever MXCSR says.
  void dot_bf16(int dst, int a, int b) {
    require_tile(dst), require_tile(a), require_tile(b);
    require(dst != a && dst != b && a != b, "the three tiles of a product must differ");
    require(rows_[dst] == rows_[a] && row_bytes_[dst] == row_bytes_[b] && row_bytes_[a] == 4 * rows_[b],
            "shapes of a tile product do not match");
    const unsigned before = _mm_getcsr();
    _mm_setcsr(0x9fc0);  // flush to zero, denormals are zero, nearest even, every exception masked
    for (int m = 0; m < rows_[dst]; ++m) multiply_row(data_[dst][m], data_[a][m], b, row_bytes_[a] / 4);
    _mm_setcsr(before);
    for (int m = rows_[dst]; m < 16; ++m) std::memset(data_[dst][m], 0, 64);
  }

 private:
  __attribute__((noinline)) void multiply_row(uint8_t* dst, const uint8_t* a, int b, int depth) {
    float even[16] = {}, odd[16] = {}, sum[16];
    for (int k = 0; k < depth; ++k) {
      const float a_even = widen(a + 4 * k), a_odd = widen(a + 4 * k + 2);
      for (int n = 0; n < 16; ++n) {
        even[n] = __builtin_fmaf(a_even, widen(data_[b][k] + 4 * n), even[n]);
        odd[n] = __builtin_fmaf(a_odd, widen(data_[b][k] + 4 * n + 2), odd[n]);
      }
    }
    std::memcpy(sum, dst, 64);
    for (int n = 0; n < 16; ++n) sum[n] += even[n] + odd[n];
    std::memset(dst, 0, 64);
    std::memcpy(dst, sum, row_bytes_[b]);
  }

  static float widen(const uint8_t* p) {
    uint16_t half;
    std::memcpy(&half, p, 2);
    const uint32_t bits = uint32_t(half) << 16;
    float x;
    std::memcpy(&x, &bits, 4);
    return x;
  }

  static void require(bool ok, const char* what) {
    if (ok) return;
    std::fprintf(stderr, "tiles: %s\n", what);
    std::abort();
  }
  void require_tile(int t) const { require(configured_ && rows_[t] > 0, "a tile was used that has no configuration"); }

  bool configured_ = false;
  uint8_t rows_[8] = {};
  uint16_t row_bytes_[8] = {};
  alignas(64) uint8_t data_[8][16][64] = {};
};

}  // namespace cambium_test

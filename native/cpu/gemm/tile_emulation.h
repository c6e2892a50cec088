// AMX tiles in plain C++, for machines without them: the same names and meaning as the intrinsics that micro_amx.cc
// uses, with every constraint of the tile configuration checked. A unit that includes this is for tests only.
#pragma once
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace cambium {
namespace tile_emulation {

struct State {
  bool configured = false;
  uint8_t rows[8];
  uint16_t row_bytes[8];
  alignas(64) uint8_t data[8][16][64];
};
inline State& state() {
  thread_local State s;
  return s;
}

inline void require(bool ok, const char* what) {
  if (ok) return;
  std::fprintf(stderr, "tile emulation: %s\n", what);
  std::abort();
}

inline void load_config(const void* config) {
  const uint8_t* bytes = static_cast<const uint8_t*>(config);
  State& s = state();
  require(bytes[0] == 1, "palette 1 expected");
  for (int t = 0; t < 8; ++t) {
    std::memcpy(&s.row_bytes[t], bytes + 16 + 2 * t, 2);
    s.rows[t] = bytes[48 + t];
    require(s.rows[t] <= 16 && s.row_bytes[t] <= 64, "a tile has at most 16 rows of 64 bytes");
  }
  std::memset(s.data, 0, sizeof s.data);
  s.configured = true;
}
inline void release() { state().configured = false; }

inline void zero(int t) {
  require(state().configured, "tiles used without a configuration");
  std::memset(state().data[t], 0, sizeof state().data[t]);
}
inline void load(int t, const void* base, int64_t stride) {
  State& s = state();
  zero(t);
  for (int r = 0; r < s.rows[t]; ++r)
    std::memcpy(s.data[t][r], static_cast<const uint8_t*>(base) + r * stride, s.row_bytes[t]);
}
inline void store(int t, void* base, int64_t stride) {
  State& s = state();
  require(s.configured, "tiles used without a configuration");
  for (int r = 0; r < s.rows[t]; ++r)
    std::memcpy(static_cast<uint8_t*>(base) + r * stride, s.data[t][r], s.row_bytes[t]);
}

inline float widen(const uint8_t* p) {
  uint16_t half;
  std::memcpy(&half, p, 2);
  const uint32_t bits = uint32_t(half) << 16;
  float x;
  std::memcpy(&x, &bits, 4);
  return x;
}

// dst[m][n] += sum over pairs k of a[m][2k] * b[k][2n] + a[m][2k+1] * b[k][2n+1]
inline void dot_bf16(int dst, int a, int b) {
  State& s = state();
  require(s.configured, "tiles used without a configuration");
  require(s.rows[dst] == s.rows[a] && s.row_bytes[dst] == s.row_bytes[b] && s.row_bytes[a] == 4 * s.rows[b],
          "shapes of a tile product do not match");
  for (int m = 0; m < s.rows[dst]; ++m)
    for (int k = 0; k < s.row_bytes[a] / 4; ++k)
      for (int n = 0; n < s.row_bytes[dst] / 4; ++n) {
        float c;
        std::memcpy(&c, &s.data[dst][m][4 * n], 4);
        for (int half = 0; half < 2; ++half)
          c += widen(&s.data[a][m][4 * k + 2 * half]) * widen(&s.data[b][k][4 * n + 2 * half]);
        std::memcpy(&s.data[dst][m][4 * n], &c, 4);
      }
}

}  // namespace tile_emulation
}  // namespace cambium

#undef _tile_loadconfig
#undef _tile_release
#undef _tile_zero
#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbf16ps
#define _tile_loadconfig(config) ::cambium::tile_emulation::load_config(config)
#define _tile_release() ::cambium::tile_emulation::release()
#define _tile_zero(t) ::cambium::tile_emulation::zero(t)
#define _tile_loadd(t, base, stride) ::cambium::tile_emulation::load(t, base, stride)
#define _tile_stored(t, base, stride) ::cambium::tile_emulation::store(t, base, stride)
#define _tile_dpbf16ps(dst, a, b) ::cambium::tile_emulation::dot_bf16(dst, a, b)

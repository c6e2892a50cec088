// AMX tiles that move their bytes but multiply nothing. A build over them runs the tile level's own code on any machine
// with AVX-512 BF16 and takes the time of everything but the products: what is left to make cheap on a machine whose
// products are many times faster. Results are meaningless. cmake -DCAMBIUM_HOLLOW_TILES=ON; never in a build that ships.
#pragma once
#include <immintrin.h>

#include <cstdint>

namespace cambium {
namespace hollow_tiles {

inline __attribute__((always_inline)) void load(const void* base, int64_t stride) {
  const char* p = static_cast<const char*>(base);
  for (int row = 0; row < 16; ++row, p += stride) {
    __asm__ volatile("vmovups %0, %%zmm31" : : "m"(*reinterpret_cast<const char(*)[64]>(p)) : "xmm31");
  }
}
inline __attribute__((always_inline)) void store(void* base, int64_t stride) {
  char* p = static_cast<char*>(base);
  const __m512 value = _mm512_set1_ps(0.01f);
  for (int row = 0; row < 16; ++row, p += stride) _mm512_storeu_ps(p, value);
}

}  // namespace hollow_tiles
}  // namespace cambium

#undef _tile_loadconfig
#undef _tile_release
#undef _tile_zero
#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbf16ps
#define _tile_loadconfig(config) ((void)(config))
#define _tile_release() ((void)0)
#define _tile_zero(t) ((void)0)
#define _tile_loadd(t, base, stride) ::cambium::hollow_tiles::load(base, stride)
#define _tile_stored(t, base, stride) ::cambium::hollow_tiles::store(base, stride)
#define _tile_dpbf16ps(dst, a, b) ((void)0)

#include "level.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <atomic>
#include <mutex>

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__x86_64__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace cambium {
namespace {

constexpr int kLevels = 5;
const char* const kNames[kLevels] = {"portable", "avx2", "avx512", "avx512_bf16", "amx"};

struct Features {
  bool available[kLevels] = {true, false, false, false, false};
  bool fast_bf16_dot = false;  // vdpbf16ps has twice the rate of an f32 multiply-add on AMD, half of it on Intel
};

#if defined(__x86_64__)
struct Registers {
  unsigned a = 0, b = 0, c = 0, d = 0;
};

Registers cpuid(unsigned leaf, unsigned subleaf) {
  Registers r;
  if (!__get_cpuid_count(leaf, subleaf, &r.a, &r.b, &r.c, &r.d)) return Registers();
  return r;
}

bool bit(unsigned x, int i) { return (x >> i) & 1; }

uint64_t enabled_state() {  // XCR0: register files that the system saves
  unsigned low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (uint64_t(high) << 32) | low;
}

bool tiles_permitted() {
#if defined(__linux__)
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}

Features detect() {
  Features f;
  const Registers one = cpuid(1, 0), seven = cpuid(7, 0), seven_one = seven.a >= 1 ? cpuid(7, 1) : Registers();
  if (!bit(one.c, 27) || !bit(one.c, 28)) return f;  // OSXSAVE, AVX
  const uint64_t state = enabled_state();
  const bool ymm = (state & 0x6) == 0x6, zmm = (state & 0xe6) == 0xe6, tiles = (state & 0x60000) == 0x60000;
  f.available[1] = ymm && bit(one.c, 12) && bit(one.c, 29) && bit(seven.b, 5);  // FMA, F16C, AVX2
  f.available[2] = f.available[1] && zmm && bit(seven.b, 16) && bit(seven.b, 17) && bit(seven.b, 30) &&
                   bit(seven.b, 31);  // F, DQ, BW, VL
  f.available[3] = f.available[2] && bit(seven_one.a, 5);
  f.available[4] = f.available[3] && tiles && bit(seven.d, 22) && bit(seven.d, 24) && tiles_permitted();
  const Registers vendor = cpuid(0, 0);
  f.fast_bf16_dot = vendor.b == 0x68747541 && vendor.d == 0x69746e65 && vendor.c == 0x444d4163;  // AuthenticAMD
  return f;
}
#else
Features detect() { return Features(); }
#endif

const Features& features() {
  static const Features f = detect();
  return f;
}

Level best_level() {
  const Features& f = features();
  if (f.available[4]) return Level::amx;
  if (f.available[3] && f.fast_bf16_dot) return Level::avx512_bf16;
  return f.available[2] ? Level::avx512 : f.available[1] ? Level::avx2 : Level::portable;
}

char forced_error[160];

Level choose_level() {
  const char* forced = std::getenv("CAMBIUM_CPU");
  if (!forced || !*forced) return best_level();
  for (int i = 0; i < kLevels; ++i) {
    if (std::strcmp(forced, kNames[i]) != 0) continue;
    if (features().available[i]) return Level(i);
    std::snprintf(forced_error, sizeof forced_error, "CAMBIUM_CPU: expected a level of this machine, got %s",
                  kNames[i]);
    return best_level();
  }
  std::snprintf(forced_error, sizeof forced_error,
                "CAMBIUM_CPU: expected portable, avx2, avx512, avx512_bf16 or amx, got %.40s", forced);
  return best_level();
}

std::once_flag chosen;
std::atomic<int> level_in_force{-1};

}  // namespace

Level cpu_level() {
  std::call_once(chosen, [] {
    const Level level = choose_level();
    int unset = -1;
    level_in_force.compare_exchange_strong(unset, int(level));
  });
  return Level(level_in_force.load(std::memory_order_relaxed));
}

const char* cpu_level_error() {
  cpu_level();
  return forced_error[0] ? forced_error : nullptr;
}

void set_cpu_level(Level level) {
  cpu_level();
  level_in_force.store(int(level));
}

const char* level_name(Level level) { return kNames[int(level)]; }
bool level_available(Level level) { return features().available[int(level)]; }

}  // namespace cambium

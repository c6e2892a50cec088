// What the tile instructions do, on the processor's own or on the emulated ones (tile_traps.h): the order of a product's sums,
// denormals, rounding, and that each thread has tiles of its own.
#include <immintrin.h>
#include <sched.h>

#include <cstring>
#include <thread>

#include "op_test.h"
#include "ops_test.h"

namespace cambium_test {
namespace {

struct alignas(64) Config {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};

// The intrinsics do not tell a compiler that they read memory: what is stored before must not wait, nor go.
void configure(int rows, int row_bytes) {
  Config config;
  for (int t = 0; t < 8; ++t) config.rows[t] = uint8_t(rows), config.row_bytes[t] = uint16_t(row_bytes);
  __asm__ volatile("ldtilecfg %0" : : "m"(config) : "memory");
}

// c + a[0] b[0] + a[1] b[1] in tiles of one row and one pair.
float multiply_pair(float c, const uint16_t (&a)[2], const uint16_t (&b)[2]) {
  configure(1, 4);
  _tile_loadd(0, &c, 64);
  _tile_loadd(1, a, 64);
  _tile_loadd(2, b, 64);
  _tile_dpbf16ps(0, 1, 2);
  _tile_stored(0, &c, 64);
  _tile_release();
  return c;
}

constexpr uint16_t kOne = 0x3f80, kSmallest = 0x0001, kHuge = 0x7000 /* 2^97 */, kTiny = 0x1e00 /* 2^-67 */,
                   kEighthOfUlp = 0x3300 /* 2^-25 */;

void sums_and_denormals() {
  const struct {
    const char* name;
    float c;
    uint16_t a[2], b[2];
    double expected;
  } cases[] = {
      {"even and odd products are summed apart", 16777216.0f, {kOne, kOne}, {kOne, kOne}, 16777218.0},
      {"a denormal operand is zero", 0.0f, {kSmallest, 0}, {kHuge, 0}, 0.0},
      {"a denormal product is zero", 0.0f, {kTiny, 0}, {kTiny, 0}, 0.0},
      {"a denormal in the sum is zero", 1e-40f, {0, 0}, {0, 0}, 0.0},
      {"rounded to nearest, whatever MXCSR says", 1.0f, {kEighthOfUlp, 0}, {kOne, 0}, 1.0},
  };
  for (const auto& c : cases) {
    Tensor result(1);
    check(std::string("tiles: ") + c.name, {{"c", &result, {c.expected}, 0}}, [&](CbContext*) {
      const unsigned before = _mm_getcsr();
      _mm_setcsr(before | _MM_ROUND_UP);
      const float sum = multiply_pair(c.c, c.a, c.b);
      _mm_setcsr(before);
      result.set(0, sum);
      return CB_OK;
    });
  }
}

// Tiles that hold `value`, read again after the others had their turns: how often something else was there.
int times_lost(float value) {
  int lost = 0;
  alignas(64) float before[16][16], after[16][16];
  for (auto& row : before)
    for (float& x : row) x = value;
  for (int round = 0; round < 50; ++round) {
    configure(16, 64);
    _tile_loadd(3, before, 64);
    for (int turn = 0; turn < 4; ++turn) sched_yield();
    _tile_stored(3, after, 64);
    _tile_release();
    lost += std::memcmp(before, after, sizeof before) != 0;
  }
  return lost;
}

void tiles_of_threads() {
  Tensor lost(4);
  check("tiles: each thread has its own", {{"lost", &lost, zeros(4), 0}}, [&](CbContext*) {
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) threads.emplace_back([&lost, t] { lost.set(t, times_lost(float(t + 1))); });
    for (auto& thread : threads) thread.join();
    return CB_OK;
  });
}

}  // namespace

void tiles_tests() {
  sums_and_denormals();
  tiles_of_threads();
}

}  // namespace cambium_test

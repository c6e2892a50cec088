// Checks every op kernel of the CPU backend against naive references: at every level that this machine has (AMX over
// emulated tiles), or at the one that CAMBIUM_CPU names.
#include "ops_test.h"

#include <cstdio>
#include <cstdlib>

#include "cpu/level.h"
#include "op_test.h"

int main() {
  using cambium::Level;
  const bool forced = std::getenv("CAMBIUM_CPU") != nullptr;
  for (const Level level : {Level::portable, Level::avx2, Level::avx512, Level::avx512_bf16, Level::amx}) {
    // Tiles are emulated here: all that their level needs besides is avx512_bf16.
    const bool available = cambium::level_available(level == Level::amx ? Level::avx512_bf16 : level);
    if (forced ? level != cambium::cpu_level() : !available) continue;
    cambium::set_cpu_level(level);
    cambium_test::restart_random();
    const int before = cambium_test::failures();
    cambium_test::linear_tests();
    cambium_test::low_rank_tests();
    cambium_test::attention_tests();
    cambium_test::pooled_attention_tests();
    cambium_test::rows_tests();
    cambium_test::contrastive_tests();
    cambium_test::elements_tests();
    cambium_test::optimizer_tests();
    cambium_test::attention_branch_tests();
    std::printf("ops at level %s: %d failures\n", cambium_test::backend().level, cambium_test::failures() - before);
  }
  return cambium_test::failures() == 0 ? 0 : 1;
}

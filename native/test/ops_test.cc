// Checks every op kernel of the CPU backend against naive references: at every level that this machine has (AMX over
// emulated tiles where it has none), or at the one that CAMBIUM_CPU names. An argument: a part of the names of the groups to run.
#include "ops_test.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "cpu/level.h"
#include "op_test.h"
#include "tile_traps.h"

namespace {

const struct {
  const char* name;
  void (*run)();
} kGroups[] = {
    {"linear", cambium_test::linear_tests},
    {"low-rank", cambium_test::low_rank_tests},
    {"attention", cambium_test::attention_tests},
    {"pooled", cambium_test::pooled_attention_tests},
    {"rows", cambium_test::rows_tests},
    {"contrastive", cambium_test::contrastive_tests},
    {"elements", cambium_test::elements_tests},
    {"optimizer", cambium_test::optimizer_tests},
    {"branch", cambium_test::attention_branch_tests},
};

}  // namespace

int main(int count, char** arguments) {
  using cambium::Level;
  const char* const wanted = count > 1 ? arguments[1] : "";
  const char* const asked = std::getenv("CAMBIUM_CPU");
  const bool forced = asked && *asked;
#if defined(__x86_64__)
  const bool tiles = cambium::level_available(Level::amx);
  if (!tiles) cambium_test::emulate_tiles();
  if (cambium::level_available(Level::avx512_bf16)) cambium_test::tiles_tests();
  std::printf("tiles, %s: %d failures\n", tiles ? "the processor's" : "emulated", cambium_test::failures());
#endif
  for (const Level level : {Level::portable, Level::avx2, Level::avx512, Level::avx512_bf16, Level::amx}) {
    // All that the level of tiles needs besides is avx512_bf16.
    const bool available = cambium::level_available(level == Level::amx ? Level::avx512_bf16 : level);
    if (forced ? level != cambium::cpu_level() : !available) continue;
    cambium::set_cpu_level(level);
    cambium_test::restart_random();
    const int before = cambium_test::failures();
    for (const auto& group : kGroups)
      if (std::strstr(group.name, wanted)) group.run();
    std::printf("ops at level %s: %d failures\n", cambium_test::backend().level, cambium_test::failures() - before);
  }
  return cambium_test::failures() == 0 ? 0 : 1;
}

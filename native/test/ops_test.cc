// Checks every op kernel of the CPU backend against naive references. Without CAMBIUM_CPU it runs itself once per level
// that this machine has, because the level is fixed for the life of a process.
#include "ops_test.h"

#include <cstdio>
#include <cstdlib>
#include <string>

#include "cpu/gemm/gemm.h"
#include "op_test.h"

int main(int, char** argv) {
  using cambium::Level;
  if (std::getenv("CAMBIUM_CPU") == nullptr) {
    int status = 0;
    for (const Level level : {Level::portable, Level::avx2, Level::avx512, Level::avx512_bf16, Level::amx}) {
      if (!cambium::level_available(level)) continue;
      const std::string command = std::string("CAMBIUM_CPU=") + cambium::level_name(level) + " '" + argv[0] + "'";
      if (std::system(command.c_str()) != 0) status = 1;
    }
    return status;
  }
  cambium_test::linear_tests();
  cambium_test::attention_tests();
  cambium_test::rows_tests();
  cambium_test::contrastive_tests();
  cambium_test::elements_tests();
  std::printf("ops at level %s: %d failures\n", cambium_test::backend().level, cambium_test::failures());
  return cambium_test::failures() == 0 ? 0 : 1;
}

// Chooses the table of op kernels: levels above avx512 differ from it only in the micro-kernels of products.
#include "cpu/backend.h"

#include "cpu/gemm/gemm.h"

namespace cambium {

namespace portable {
extern const Backend backend;
}
#if defined(__x86_64__)
namespace avx2 {
extern const Backend backend;
}
namespace avx512 {
extern const Backend backend;
}
#endif

namespace {

Backend choose() {
  const Level level = cpu_level();
  Backend chosen = portable::backend;
#if defined(__x86_64__)
  if (level >= Level::avx512) chosen = avx512::backend;
  else if (level == Level::avx2) chosen = avx2::backend;
#endif
  chosen.level = level_name(level);
  return chosen;
}

}  // namespace

const Backend* cpu_backend() {
  static const Backend chosen = choose();
  return &chosen;
}

}  // namespace cambium

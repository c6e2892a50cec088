// Chooses the table of op kernels: levels above avx512_bf16 differ from it only in the micro-kernel of products.
#include "cpu/backend.h"

#include "cpu/level.h"

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
namespace avx512_bf16 {
extern const Backend backend;
}
#endif

namespace {

Backend table_of(Level level) {
  Backend table = portable::backend;
#if defined(__x86_64__)
  if (level >= Level::avx512_bf16)
    table = avx512_bf16::backend;
  else if (level == Level::avx512)
    table = avx512::backend;
  else if (level == Level::avx2)
    table = avx2::backend;
#endif
  table.level = level_name(level);
  return table;
}

}  // namespace

const Backend* cpu_backend() {
  static const Backend tables[] = {table_of(Level::portable), table_of(Level::avx2), table_of(Level::avx512),
                                   table_of(Level::avx512_bf16), table_of(Level::amx)};
  return &tables[int(cpu_level())];
}

}  // namespace cambium

// Which micro-kernel a level uses.
#include "gemm.h"

namespace cambium {

namespace portable {
const MicroKernel& micro_kernel_f32();
const MicroKernel& micro_kernel_rounded();
}  // namespace portable
#if defined(__x86_64__)
namespace avx2 {
const MicroKernel& micro_kernel_f32();
const MicroKernel& micro_kernel_rounded();
}  // namespace avx2
namespace avx512 {
const MicroKernel& micro_kernel_f32();
const MicroKernel& micro_kernel_rounded();
}  // namespace avx512
namespace avx512_bf16 {
const MicroKernel& micro_kernel_bf16();
}
namespace amx {
const MicroKernel& micro_kernel_bf16();
}
#endif

const MicroKernel& micro_kernel_at(Level level, Element product) {
  const bool exact = product == Element::f32;
  switch (level) {
#if defined(__x86_64__)
    case Level::amx:
      return exact ? avx512::micro_kernel_f32() : amx::micro_kernel_bf16();
    case Level::avx512_bf16:
      return exact ? avx512::micro_kernel_f32() : avx512_bf16::micro_kernel_bf16();
    case Level::avx512:
      return exact ? avx512::micro_kernel_f32() : avx512::micro_kernel_rounded();
    case Level::avx2:
      return exact ? avx2::micro_kernel_f32() : avx2::micro_kernel_rounded();
#endif
    default:
      return exact ? portable::micro_kernel_f32() : portable::micro_kernel_rounded();
  }
}

const MicroKernel& micro_kernel(Element product) { return micro_kernel_at(cpu_level(), product); }

}  // namespace cambium

// What the compiler's checks of undefined behaviour tell (-fsanitize=alignment and others, without their library): the kernel
// has failed, as on a GPU, where a misaligned access is an error and the others give what nobody asked for.
#include "cuda/emulation/checks.h"

#include <cstdint>
#include <cstdio>

namespace cambium {
namespace emulation {
namespace {

struct Place {  // as GCC and Clang lay it out
  const char* file;
  uint32_t line, column;
};

char text[400];
bool wrong = false;

void tell(const void* data, const char* what) {
  if (wrong) return;
  const auto& place = *static_cast<const Place*>(data);
  std::snprintf(text, sizeof text, "%s:%u: %s", place.file, place.line, what);
  std::fprintf(stderr, "emulated device: %s\n", text);  // at once: the process may not survive the access
  wrong = true;
}

}  // namespace

void say_wrong(const char* what) {
  if (!wrong) std::snprintf(text, sizeof text, "%s", what);
  wrong = true;
}

const char* take_wrong() {
  const bool was = wrong;
  wrong = false;
  return was ? text : nullptr;
}

}  // namespace emulation
}  // namespace cambium

#define HANDLER(name, what, ...) \
  extern "C" void name(void* data, ##__VA_ARGS__) { cambium::emulation::tell(data, what); }
HANDLER(__ubsan_handle_type_mismatch_v1, "misaligned address", void*)
HANDLER(__ubsan_handle_out_of_bounds, "index outside of an array", void*)
HANDLER(__ubsan_handle_shift_out_of_bounds, "shift by too much", void*, void*)
HANDLER(__ubsan_handle_add_overflow, "integer overflow", void*, void*)
HANDLER(__ubsan_handle_sub_overflow, "integer overflow", void*, void*)
HANDLER(__ubsan_handle_mul_overflow, "integer overflow", void*, void*)
HANDLER(__ubsan_handle_negate_overflow, "integer overflow", void*)
HANDLER(__ubsan_handle_divrem_overflow, "division by zero", void*, void*)

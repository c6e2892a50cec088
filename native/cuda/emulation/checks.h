// What checks inside of a kernel found wrong.
#pragma once

namespace cambium {
namespace emulation {

void say_wrong(const char* what);
const char* take_wrong();  // the first since the last call, null when there was none

}  // namespace emulation
}  // namespace cambium

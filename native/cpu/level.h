// Instruction set levels of the CPU, chosen by feature bits (CPUID, XCR0, the AMX permission call), never by family.
#pragma once
#include <cstdint>

namespace cambium {

enum class Level : int32_t { portable, avx2, avx512, avx512_bf16, amx };

Level cpu_level();               // the best level of this machine, or the one that CAMBIUM_CPU names (read once)
const char* cpu_level_error();   // null, or why CAMBIUM_CPU was refused (the level is then the best of this machine)
void set_cpu_level(Level);       // for tests and benches; matrices packed at another level are not to be used after it
const char* level_name(Level);
bool level_available(Level);     // asks the system for AMX tile memory the first time that amx is meant

}  // namespace cambium

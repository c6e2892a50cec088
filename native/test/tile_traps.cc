#include "tile_traps.h"

#include <csignal>
#include <cstdint>

#include <ucontext.h>

#include "tile_unit.h"

namespace cambium_test {
namespace {

thread_local TileUnit tiles;

// VEX.128.0F38.W0, the form of every instruction here: C4, inverted R X B and the map, W and inverted vvvv and L and the prefix,
// the opcode, ModRM, and what follows it.
struct Instruction {
  enum Prefix { none, p66, f3, f2 };
  bool known;
  int r, x, b, vvvv, prefix, opcode, mod, reg, rm;
  const uint8_t* rest;

  explicit Instruction(const uint8_t* p) {
    known = p[0] == 0xc4 && (p[1] & 0x1f) == 2 && (p[2] & 0x84) == 0;
    r = ~p[1] >> 7 & 1, x = ~p[1] >> 6 & 1, b = ~p[1] >> 5 & 1;
    vvvv = ~p[2] >> 3 & 15, prefix = p[2] & 3, opcode = p[3];
    mod = p[4] >> 6, reg = (p[4] >> 3 & 7) | r << 3, rm = p[4] & 7;
    rest = p + 5;
  }
};

struct Operand {
  uint8_t* base;
  int64_t index;  // the stride of loads and stores
  const uint8_t* end;
};

int64_t read_register(const ucontext_t& c, int number) {
  static constexpr int kOrder[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                     REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
  return c.uc_mcontext.gregs[kOrder[number]];
}

Operand operand(const Instruction& i, const ucontext_t& c) {
  const uint8_t* p = i.rest;
  int64_t address = 0, index = 0;
  int base = i.rm;
  if (i.rm == 4) {
    const int sib = *p++, number = (sib >> 3 & 7) | i.x << 3;
    base = sib & 7;
    if (number != 4) index = read_register(c, number) * (1 << (sib >> 6));
  }
  int32_t far = 0;
  const bool no_base = i.mod == 0 && base == 5;
  if (i.mod == 1) far = int8_t(*p++);
  if (i.mod == 2 || no_base) std::memcpy(&far, p, 4), p += 4;
  if (!no_base) address = read_register(c, base | i.b << 3);
  else if (i.rm != 4) address = reinterpret_cast<int64_t>(p);  // from the next instruction on
  return {reinterpret_cast<uint8_t*>(address + far), index, p};
}

// Does what the instruction at the point of the trap says; the address of the next one, or null where it is none of ours.
const uint8_t* step(const ucontext_t& c) {
  const Instruction i(reinterpret_cast<const uint8_t*>(c.uc_mcontext.gregs[REG_RIP]));
  if (!i.known) return nullptr;
  if (i.mod == 3) {
    if (i.opcode == 0x5c && i.prefix == Instruction::f3) tiles.dot_bf16(i.reg, i.rm, i.vvvv);
    else if (i.opcode == 0x49 && i.prefix == Instruction::f2) tiles.zero(i.reg);
    else if (i.opcode == 0x49 && i.prefix == Instruction::none) tiles.released();
    else return nullptr;
    return i.rest;
  }
  const Operand o = operand(i, c);
  if (i.opcode == 0x49 && i.prefix == Instruction::none) tiles.configure(o.base);
  else if (i.opcode == 0x4b && i.prefix == Instruction::f2) tiles.load(i.reg, o.base, o.index);
  else if (i.opcode == 0x4b && i.prefix == Instruction::f3) tiles.store(i.reg, o.base, o.index);
  else return nullptr;
  return o.end;
}

void on_trap(int, siginfo_t*, void* context) {
  auto& c = *static_cast<ucontext_t*>(context);
  const uint8_t* const next = step(c);
  if (next) c.uc_mcontext.gregs[REG_RIP] = reinterpret_cast<greg_t>(next);
  else std::signal(SIGILL, SIG_DFL);  // it traps again, and ends the program as it would have
}

}  // namespace

void emulate_tiles() {
  struct sigaction action = {};
  action.sa_sigaction = on_trap;
  action.sa_flags = SA_SIGINFO | SA_NODEFER;
  sigaction(SIGILL, &action, nullptr);
}

}  // namespace cambium_test

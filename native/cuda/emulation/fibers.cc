#include "cuda/emulation/fibers.h"

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#if !defined(__x86_64__)
#include <ucontext.h>
#endif
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

namespace cambium {
namespace emulation {
namespace {

#if defined(__SANITIZE_ADDRESS__)
constexpr size_t kStack = size_t{256} << 10;
#else
constexpr size_t kStack = size_t{64} << 10;
#endif

thread_local Fiber* running = nullptr;

}  // namespace

#if defined(__x86_64__)
// Saves what a called function must keep, leaves the stack's top in *from, and goes on where `to` was left.
extern "C" void cambium_switch_stack(void** from, void* to);
__asm__(
    ".text\n.globl cambium_switch_stack\n.hidden cambium_switch_stack\n.type cambium_switch_stack,@function\n"
    "cambium_switch_stack:\n"
    "  pushq %rbp\n  pushq %rbx\n  pushq %r12\n  pushq %r13\n  pushq %r14\n  pushq %r15\n"
    "  movq %rsp, (%rdi)\n  movq %rsi, %rsp\n"
    "  popq %r15\n  popq %r14\n  popq %r13\n  popq %r12\n  popq %rbx\n  popq %rbp\n  ret\n"
    ".size cambium_switch_stack, .-cambium_switch_stack\n");
#endif

struct Fiber::Machine {
  char* stack = nullptr;
#if defined(__x86_64__)
  void *top = nullptr, *back = nullptr;
#else
  ucontext_t here, back;
#endif
#if defined(__SANITIZE_ADDRESS__)
  void* fake = nullptr;
  const void* outer_stack = nullptr;
  size_t outer_size = 0;
#endif
};

Fiber::Fiber() : machine_(new Machine) {
  // The lowest page stays closed: a stack that overflows faults instead of writing elsewhere.
  void* const room = mmap(nullptr, kStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (room == MAP_FAILED) abort();
  mprotect(room, 4096, PROT_NONE);
  machine_->stack = static_cast<char*>(room);
}

Fiber::~Fiber() { munmap(machine_->stack, kStack); }

void Fiber::enter() {
  Fiber* const self = running;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, &self->machine_->outer_stack, &self->machine_->outer_size);
#endif
  self->function_(self->argument_);
  self->ended_ = true;
  yield();
  abort();  // nobody resumes a fiber that has ended
}

void Fiber::start(void (*function)(void*), void* argument) {
  function_ = function;
  argument_ = argument;
  ended_ = false;
#if defined(__x86_64__)
  // As if `enter` had been called just before its first instruction: aligned, and six registers to pop.
  auto** top = reinterpret_cast<void**>(machine_->stack + kStack);
  *--top = nullptr;
  *--top = reinterpret_cast<void*>(&Fiber::enter);
  for (int i = 0; i < 6; ++i) *--top = nullptr;
  machine_->top = top;
#else
  getcontext(&machine_->here);
  machine_->here.uc_stack.ss_sp = machine_->stack + 4096;
  machine_->here.uc_stack.ss_size = kStack - 4096;
  machine_->here.uc_link = nullptr;
  makecontext(&machine_->here, &Fiber::enter, 0);
#endif
}

void Fiber::resume() {
  running = this;
#if defined(__SANITIZE_ADDRESS__)
  void* fake = nullptr;
  __sanitizer_start_switch_fiber(&fake, machine_->stack + 4096, kStack - 4096);
#endif
#if defined(__x86_64__)
  cambium_switch_stack(&machine_->back, machine_->top);
#else
  swapcontext(&machine_->back, &machine_->here);
#endif
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#endif
  running = nullptr;
}

void Fiber::yield() {
  Fiber* const self = running;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(self->ended_ ? nullptr : &self->machine_->fake, self->machine_->outer_stack, self->machine_->outer_size);
#endif
#if defined(__x86_64__)
  cambium_switch_stack(&self->machine_->top, self->machine_->back);
#else
  swapcontext(&self->machine_->here, &self->machine_->back);
#endif
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(self->machine_->fake, &self->machine_->outer_stack, &self->machine_->outer_size);
#endif
}

}  // namespace emulation
}  // namespace cambium

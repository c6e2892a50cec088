// Stacks of their own for the threads of an emulated block: switching is a function call, in any order we like.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace cambium {
namespace emulation {

// One thread of control. `resume` runs it until it calls `yield` or its function returns.
class Fiber {
 public:
  Fiber();
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  void start(void (*function)(void*), void* argument);  // not before what it ran has ended
  void resume();
  static void yield();  // back to who resumed the fiber that is running
  bool ended() const { return ended_; }

 private:
  static void enter();
  struct Machine;
  std::unique_ptr<Machine> machine_;
  void (*function_)(void*) = nullptr;
  void* argument_ = nullptr;
  bool ended_ = true;
};

}  // namespace emulation
}  // namespace cambium

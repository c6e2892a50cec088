#include "cuda/emulation/races.h"

#if defined(CAMBIUM_CUDA_RACES)
#include <dlfcn.h>

#include <cstdint>
#include <cstdio>
#include <memory>
#include <unordered_map>

#include "cuda/emulation/checks.h"

// Shared memory that is declared in kernels is static here.
extern "C" __attribute__((visibility("hidden"))) char __bss_start[], _end[];

namespace cambium {
namespace emulation {
namespace {

constexpr int kNobody = -1, kWarps = 4096;        // who: a thread of the block, or kWarps + a warp
constexpr size_t kCell = 2, kPage = 4096;         // bytes that share a cell; bytes of a page of cells
constexpr size_t kMostPages = 8192;
enum Many : uint8_t { kLanes = 1, kOtherWarps = 2, kOtherBlocks = 4 };  // who else has read

struct Access {
  uint64_t time = 0, warp_time = 0, block = 0;
  int32_t who = kNobody;
  uint8_t many = 0;
  const void* at = nullptr;  // in the code
};
struct Cell {
  Access write, read;
};
struct Page {
  Cell cells[kPage / kCell];
};

std::unordered_map<uintptr_t, std::unique_ptr<Page>> pages;
uint64_t now = 1, launch_began = 1, block = 0, warp_times[32], next_warp_time = 1;
const char *shared_begin = nullptr, *shared_end = nullptr;
int who = kNobody;

int warp_of(int id) { return id >= kWarps ? id - kWarps : id / 32; }

bool ordered(const Access& before, const Access& after, bool shared) {
  if (before.who == kNobody || before.time < launch_began) return true;
  if (before.block != after.block) return shared;
  if (before.time != after.time || before.who == after.who) return true;
  return warp_of(before.who) == warp_of(after.who) && before.warp_time != after.warp_time;
}

void tell(const Access& before, const Access& after, const char* kind, bool shared) {
  Dl_info info{};
  dladdr(reinterpret_cast<const void*>(&tell), &info);
  const auto place = [&](const Access& a) { return static_cast<unsigned long>(static_cast<const char*>(a.at) - static_cast<const char*>(info.dli_fbase)); };
  char text[256];  // places in the library, for addr2line
  std::snprintf(text, sizeof text, "race in %s memory, %s: +%#lx by thread %d, and +%#lx by thread %d%s", shared ? "shared" : "device", kind, place(before),
                before.who, place(after), after.who, before.block == after.block ? "" : " of another block");
  say_wrong(text);
}

void note_read(Access& last, const Access& access) {
  uint8_t many = 0;
  if (last.who != kNobody && last.time >= launch_began) {
    many = last.many & kOtherBlocks;
    if (last.block != access.block) {
      many |= kOtherBlocks;
    } else if (last.time == access.time) {
      many |= last.many & kOtherWarps;
      if (warp_of(last.who) != warp_of(access.who)) many |= kOtherWarps;
      else if (last.warp_time == access.warp_time) many |= last.who != access.who ? kLanes : last.many & kLanes;
    }
  }
  last = access;
  last.many = many;
}

bool read_by_others(const Access& read, const Access& access, bool shared) {
  if (!ordered(read, access, shared)) return true;
  if (read.who == kNobody || read.time < launch_began) return false;
  if (!shared && (read.many & kOtherBlocks)) return true;
  if (read.block != access.block || read.time != access.time) return false;
  if (read.many & kOtherWarps) return true;
  return (read.many & kLanes) && warp_of(read.who) == warp_of(access.who) && read.warp_time == access.warp_time;
}

void touch(const void* start, size_t bytes, bool writes, const void* code) {
  if (who == kNobody) return;
  const char* const first = static_cast<const char*>(start);
  const bool shared = (first >= shared_begin && first < shared_end) || (first >= __bss_start && first < _end);
  if (!shared && !races_in_device_memory(first)) return;
  const Access access{now, warp_times[warp_of(who)], block, who, 0, code};
  for (uintptr_t at = reinterpret_cast<uintptr_t>(first) / kCell * kCell; at < reinterpret_cast<uintptr_t>(first) + bytes; at += kCell) {
    auto& page = pages[at / kPage];
    if (!page) page.reset(new Page);
    Cell& cell = page->cells[at % kPage / kCell];
    if (!ordered(cell.write, access, shared)) tell(cell.write, access, writes ? "two writes" : "written, then read", shared);
    if (!writes) {
      note_read(cell.read, access);
      continue;
    }
    if (read_by_others(cell.read, access, shared)) tell(cell.read, access, "read, then written", shared);
    cell.write = access;
  }
}

}  // namespace

void races_begin_launch() {
  if (pages.size() > kMostPages) pages.clear();
  launch_began = ++now;
}
void races_begin_block(const void* shared, size_t bytes) {
  shared_begin = static_cast<const char*>(shared), shared_end = shared_begin + bytes;
  ++block, ++now;
}
void races_enter(int thread) { who = thread; }
void races_enter_warp(int warp) { who = kWarps + warp; }
void races_leave() { who = kNobody; }
void races_pass_barrier() { ++now; }
void races_pass_warp_barrier(int warp) { warp_times[warp] = ++next_warp_time; }
void races_copy(const void* to, const void* from, size_t bytes) {
  if (from) touch(from, bytes, false, __builtin_return_address(0));
  touch(to, 16, true, __builtin_return_address(0));
}

}  // namespace emulation
}  // namespace cambium

#define ACCESS(name, bytes, writes) \
  extern "C" void name(void* at) { cambium::emulation::touch(at, bytes, writes, __builtin_return_address(0)); }
#define ACCESSES(bytes)                              \
  ACCESS(__tsan_read##bytes, bytes, false)           \
  ACCESS(__tsan_write##bytes, bytes, true)           \
  ACCESS(__tsan_unaligned_read##bytes, bytes, false) \
  ACCESS(__tsan_unaligned_write##bytes, bytes, true)
ACCESSES(2)
ACCESSES(4)
ACCESSES(8)
ACCESSES(16)
ACCESS(__tsan_read1, 1, false)
ACCESS(__tsan_write1, 1, true)
extern "C" void __tsan_read_range(void* at, long bytes) { cambium::emulation::touch(at, size_t(bytes), false, __builtin_return_address(0)); }
extern "C" void __tsan_write_range(void* at, long bytes) { cambium::emulation::touch(at, size_t(bytes), true, __builtin_return_address(0)); }
extern "C" void __tsan_init() {}
extern "C" void __tsan_func_entry(void*) {}
extern "C" void __tsan_func_exit(void*) {}
extern "C" void __tsan_vptr_update(void*, void*) {}
extern "C" void __tsan_vptr_read(void*) {}
#endif

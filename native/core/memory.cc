#include "core/memory.h"

#include <cstdlib>

#include "core/error.h"
#ifdef __linux__
#include <sys/mman.h>
#endif

namespace cambium {
namespace {

constexpr size_t kAlign = 64;
constexpr size_t kSegment = size_t{32} << 20;  // the fewer the borders, the fewer the gaps; pages count once touched
constexpr size_t kPage = size_t{2} << 20;

void* take_host(void*, size_t bytes) {
  void* data = nullptr;
  if (posix_memalign(&data, kPage, bytes) != 0) return nullptr;
#ifdef __linux__
  madvise(data, bytes, MADV_HUGEPAGE);  // a hint: fewer faults and TLB misses where the kernel allows it
#endif
  return data;
}
void* take_scratch(void*, size_t bytes) {
  void* data = nullptr;
  return posix_memalign(&data, kAlign, bytes) == 0 ? data : nullptr;
}
void give_host(void*, void* data) { std::free(data); }

size_t round_up(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }

}  // namespace

const SegmentSource kHostSegments{nullptr, take_host, give_host, nullptr};
const SegmentSource kHostScratch{nullptr, take_scratch, give_host, nullptr};

Memory::~Memory() {
  for (auto& [data, bytes] : segments_) source_.give(source_.owner, data);
}

void Memory::insert_free(char* at, size_t size, char* segment) {
  blocks_[at] = Block{size, true, segment};
  free_.emplace(size, at);
}

char* Memory::take_segment(size_t bytes) {
  // Large tensors get a segment of their own size, small ones share.
  size_t size = bytes >= kSegment / 2 ? round_up(bytes, kPage) : kSegment;
  if (budget_ && reserved_ + size > budget_) size = round_up(bytes, kPage);
  refused_ = 0;
  if (budget_ && reserved_ + size > budget_) return nullptr;
  char* data = static_cast<char*>(source_.take(source_.owner, size));
  if (!data && size > round_up(bytes, kPage)) {  // a shared segment is a wish
    size = round_up(bytes, kPage);
    data = static_cast<char*>(source_.take(source_.owner, size));
  }
  if (!data) {
    refused_ = size;
    return nullptr;
  }
  segments_[data] = size;
  reserved_ += size;
  insert_free(data, size, data);
  return data;
}

void Memory::fail_to_allocate(size_t size, const char* what) const {
  const char* code = "E_OUT_OF_MEMORY";
  if (!refused_) {
    fail(code, "%s: expected %zu free bytes, got %zu of %zu reserved (budget %zu)", what, size, reserved_ - live_, reserved_,
         budget_);
  }
  const std::string why = source_.free_now ? source_.free_now(source_.owner)
                                           : "; it is short of memory, or this process has a limit (ulimit -v)";
  fail(code, "%s: expected %zu free bytes, got none: the machine refused %zu bytes beside the %zu it gave, %zu in use%s",
       what, size, refused_, reserved_, live_, why.c_str());
}

void* Memory::allocate(size_t bytes, const char* what) {
  const size_t size = round_up(bytes ? bytes : 1, kAlign);
  auto fit = free_.lower_bound({size, nullptr});
  if (fit == free_.end()) {
    if (!take_segment(size)) {
      if (wait_for_stream) wait_for_stream();
      trim();
      if (!take_segment(size)) fail_to_allocate(size, what);
    }
    fit = free_.lower_bound({size, nullptr});
  }
  char* at = fit->second;
  Block& block = blocks_[at];
  free_.erase(fit);
  if (block.size > size) insert_free(at + size, block.size - size, block.segment);
  blocks_[at] = Block{size, false, block.segment};
  live_ += size;
  if (live_ + scratch > peak_) peak_ = live_ + scratch;
  return at;
}

void Memory::release(void* data) {
  auto it = blocks_.find(static_cast<char*>(data));
  if (it == blocks_.end() || it->second.free) return;
  live_ -= it->second.size;
  Block merged = it->second;
  char* at = it->first;
  auto next = std::next(it);
  if (next != blocks_.end() && next->second.free && next->second.segment == merged.segment) {
    free_.erase({next->second.size, next->first});
    merged.size += next->second.size;
    blocks_.erase(next);
  }
  if (it != blocks_.begin()) {
    auto previous = std::prev(it);
    if (previous->second.free && previous->second.segment == merged.segment) {
      free_.erase({previous->second.size, previous->first});
      merged.size += previous->second.size;
      at = previous->first;
      blocks_.erase(it);
    }
  }
  insert_free(at, merged.size, merged.segment);
}

void Memory::trim() {
  for (auto it = segments_.begin(); it != segments_.end();) {
    auto block = blocks_.find(it->first);
    if (block->second.free && block->second.size == it->second) {
      free_.erase({it->second, it->first});
      blocks_.erase(block);
      source_.give(source_.owner, it->first);
      reserved_ -= it->second;
      it = segments_.erase(it);
    } else {
      ++it;
    }
  }
}

void Memory::reset_peak() { peak_ = live_ + scratch; }

MemoryUse Memory::use() const {
  const size_t now = live_ + scratch;  // the scratch may have grown since the last tensor
  return {live_, now > peak_ ? now : peak_, reserved_ + scratch, budget_};
}

}  // namespace cambium

// Stream-ordered memory of one device in one Node environment.
//
// Used by the JavaScript thread only. A block released there may be handed out again at once: whatever still reads it
// was queued earlier, and the stream runs in order. Best fit with coalescing inside large segments, so that the peak
// stays near what is live. Running out (of the budget or of the system) is an Error with the bytes asked and free.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <utility>

namespace cambium {

// Where segments come from: the system allocator, or a device's.
struct SegmentSource {
  void* owner;
  void* (*take)(void* owner, size_t bytes);
  void (*give)(void* owner, void* data);
  std::string (*free_now)(void* owner);  // what its device says of its memory, for errors; null: nothing to say
};
extern const SegmentSource kHostSegments, kHostScratch;

struct MemoryUse {
  size_t live = 0;      // bytes of tensors alive
  size_t peak = 0;      // largest sum of live and scratch so far
  size_t reserved = 0;  // bytes held from the system, scratch included
  size_t budget = 0;    // 0: none
};

class Memory {
 public:
  explicit Memory(const SegmentSource& source = kHostSegments) : source_(source) {}
  const SegmentSource& source() const { return source_; }
  ~Memory();
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  void* allocate(size_t bytes, const char* what);  // 64-byte aligned; throws E_OUT_OF_MEMORY
  void release(void* data);
  void trim();  // gives empty segments back; the caller has waited for the stream
  void set_budget(size_t bytes) { budget_ = bytes; }
  void reset_peak();
  MemoryUse use() const;

  std::atomic<size_t> scratch{0};           // bytes of the stream's scratch, written by the stream's thread
  std::function<void()> wait_for_stream;    // called before memory goes back to the system under pressure

 private:
  struct Block {
    size_t size;
    bool free;
    char* segment;
  };
  char* take_segment(size_t bytes);
  [[noreturn]] void fail_to_allocate(size_t size, const char* what) const;
  void insert_free(char* at, size_t size, char* segment);

  const SegmentSource source_;
  std::map<char*, Block> blocks_;              // every block by address
  std::set<std::pair<size_t, char*>> free_;    // free ones by size
  std::map<char*, size_t> segments_;
  size_t live_ = 0, peak_ = 0, reserved_ = 0, budget_ = 0;
  size_t refused_ = 0;  // what the system would not give last; 0: the budget was in the way
};

}  // namespace cambium

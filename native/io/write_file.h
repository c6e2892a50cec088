// A file that is being made: positioned writes from any thread, then one sync.
#pragma once
#include <cstdint>
#include <string>

#include "io/file.h"

namespace cambium {

class WriteFile {
 public:
  static constexpr uint64_t kPage = 4096;
  WriteFile() = default;
  WriteFile(const WriteFile&) = delete;
  WriteFile& operator=(const WriteFile&) = delete;
  ~WriteFile();

  // Creates `path`, which must not exist, with room for `size` bytes. Errors: E_IO, E_NOT_FOUND, E_NO_SPACE.
  IoStatus create(const std::string& path, uint64_t size);
  IoStatus write(uint64_t offset, uint64_t bytes, const void* src) const;
  // The same, whole pages past the page cache where the system can do that and `src` agrees with `offset` modulo a page.
  IoStatus write_past_cache(uint64_t offset, uint64_t bytes, const void* src) const;
  // Copies a range of `from` without passing it through user space where the system can do that.
  IoStatus copy(const ReadFile& from, uint64_t from_offset, uint64_t offset, uint64_t bytes) const;
  // Asks the system to begin writing a range back; never an error.
  void start_writeback(uint64_t offset, uint64_t bytes) const;
  // Waits until all is on the disk.
  IoStatus sync() const;

 private:
  IoStatus write_to(int descriptor, uint64_t offset, uint64_t bytes, const void* src) const;

  int descriptor_ = -1, direct_ = -1;  // direct_: O_DIRECT, where there is such a thing
  std::string path_;
};

}  // namespace cambium

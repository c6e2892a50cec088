// Plain reading of a part of a file. Weights are copied out with pread, never mapped: a file that is cut or replaced
// while we read is an error (E_FILE_CHANGED), not a SIGBUS.
#pragma once

#include <cstdint>
#include <string>

#include "io_status.h"

namespace cambium {

// An open file for positioned reads from any thread. Closed by the destructor.
class ReadFile {
 public:
  ReadFile() = default;
  ReadFile(const ReadFile&) = delete;
  ReadFile& operator=(const ReadFile&) = delete;
  ~ReadFile();

  // Opens `path` and checks that it is a regular file of exactly `expected_size` bytes (what the header was validated
  // against). Errors: E_NOT_FOUND, E_IO, E_FILE_CHANGED.
  IoStatus open(const std::string& path, uint64_t expected_size);

  // Copies bytes [offset, offset + bytes) to `dst`. A short read is E_FILE_CHANGED.
  IoStatus read(uint64_t offset, uint64_t bytes, void* dst) const;

  // Hints for a range that is about to be read, and for one that will not be read again. Never an error.
  void will_need(uint64_t offset, uint64_t bytes) const;
  void will_not_need(uint64_t offset, uint64_t bytes) const;

  // Whether the system holds that byte in memory; false where it cannot tell.
  bool is_cached(uint64_t offset) const;

  // For system calls that copy between files.
  int descriptor() const { return descriptor_; }

  // Checks again that the size is what it was: call after the last read, so that growth is seen too.
  IoStatus check_unchanged() const;

 private:
  int descriptor_ = -1;
  uint64_t size_ = 0;
  std::string path_;
};

// open, read, check_unchanged in one call.
IoStatus read_file_range(const std::string& path, uint64_t offset, uint64_t bytes, void* dst, uint64_t expected_size);

}  // namespace cambium

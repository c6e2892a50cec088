// A file that appears whole or not at all: written aside in the same folder, synced, renamed over the target, and the
// folder synced. Readers that have the old file open keep it. Not for two threads at once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "io_status.h"

namespace cambium {

class AtomicFile {
 public:
  AtomicFile() = default;
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  ~AtomicFile();  // aborts what was not committed

  // Creates the file aside: `.NAME.<random>.tmp` beside `path`, with the rights of the file it replaces, else 0666 &
  // ~umask.
  IoStatus open(const std::string& path);
  // Appends; E_NO_SPACE when the disk is full. After any error only abort() is left to do.
  IoStatus write(const void* bytes, size_t count);
  // fsync, rename, fsync of the folder. On an error the target is as it was and nothing is left aside.
  IoStatus commit();
  // Closes and removes the file aside. Safe at any time, any number of times.
  void abort();

  uint64_t written() const { return written_; }

 private:
  int descriptor_ = -1;
  uint64_t written_ = 0;
  std::string path_;
  std::string aside_;
};

struct BytePart {
  const void* bytes;
  size_t count;
};

// open, write every part, commit.
IoStatus write_file_atomic(const std::string& path, const BytePart* parts, size_t part_count);

}  // namespace cambium

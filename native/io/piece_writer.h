// Writes pieces of a file on threads of its own while others compute the next ones. Where the system can, pieces go past
// the page cache (O_DIRECT): a copy and the bookkeeping of a page for every 4 KiB are most of what a large write costs.
#pragma once
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <vector>

#include "io/write_file.h"

namespace cambium {

class PieceWriter {
 public:
  explicit PieceWriter(const WriteFile& target) : target_(target) {}
  PieceWriter(const PieceWriter&) = delete;
  PieceWriter& operator=(const PieceWriter&) = delete;
  ~PieceWriter();  // waits for what was put

  // Memory for the bytes of the file from `offset` on; waits while all is in use. Null: no memory.
  char* take(uint64_t offset, uint64_t bytes);
  // Gives it back: to be written, or not.
  void put(char* piece, uint64_t offset, uint64_t bytes);
  void drop(char* piece);
  // The first error so far; `finish` waits first.
  IoStatus status();
  IoStatus finish();

 private:
  struct Buffer {
    char* base = nullptr;
    uint64_t capacity = 0;
    bool free = true;
  };
  struct Piece {
    Buffer* buffer;
    const char* data;
    uint64_t offset, bytes;
  };
  Buffer* owner(const char* piece);
  void loop();

  const WriteFile& target_;
  std::mutex mutex_;
  std::condition_variable wake_, changed_;
  std::deque<Buffer> buffers_;
  std::deque<Piece> queue_;
  std::vector<std::thread> threads_;
  int writing_ = 0;
  bool stopping_ = false;
  IoStatus status_;
};

}  // namespace cambium

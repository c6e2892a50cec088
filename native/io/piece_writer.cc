#include "io/piece_writer.h"

#include <cstdlib>

#include "cpu/parallel.h"

namespace cambium {
namespace {

constexpr int kThreads = 4;  // enough for a disk to have the next piece before it asks
constexpr uint64_t kPage = WriteFile::kPage;

}  // namespace

PieceWriter::~PieceWriter() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  for (std::thread& thread : threads_) thread.join();
  for (Buffer& buffer : buffers_) std::free(buffer.base);
}

// Its address and `offset` agree modulo a page, as direct writes ask.
char* PieceWriter::take(uint64_t offset, uint64_t bytes) {
  std::unique_lock<std::mutex> lock(mutex_);
  Buffer* found = nullptr;
  const auto find = [&] {
    for (Buffer& buffer : buffers_) {
      if (buffer.free) return found = &buffer, true;
    }
    // One for each thread that computes, and as many again for those that write.
    if (buffers_.size() >= static_cast<size_t>(thread_count() + kThreads)) return false;
    buffers_.emplace_back();
    return found = &buffers_.back(), true;
  };
  changed_.wait(lock, find);
  const uint64_t needed = (bytes + 2 * kPage - 1) / kPage * kPage;
  if (found->capacity < needed) {
    std::free(found->base);
    found->base = static_cast<char*>(std::aligned_alloc(kPage, needed));
    found->capacity = found->base ? needed : 0;
  }
  if (!found->base) return nullptr;
  found->free = false;
  return found->base + offset % kPage;
}

PieceWriter::Buffer* PieceWriter::owner(const char* piece) {
  for (Buffer& buffer : buffers_) {
    if (piece >= buffer.base && piece < buffer.base + buffer.capacity) return &buffer;
  }
  return nullptr;
}

void PieceWriter::put(char* piece, uint64_t offset, uint64_t bytes) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    queue_.push_back({owner(piece), piece, offset, bytes});
    if (threads_.size() < kThreads) threads_.emplace_back([this] { loop(); });
  }
  wake_.notify_one();
}

void PieceWriter::drop(char* piece) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    owner(piece)->free = true;
  }
  changed_.notify_all();
}

IoStatus PieceWriter::status() {
  std::lock_guard<std::mutex> lock(mutex_);
  return status_;
}

IoStatus PieceWriter::finish() {
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait(lock, [this] { return queue_.empty() && writing_ == 0; });
  return status_;
}

void PieceWriter::loop() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (true) {
    wake_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
    if (queue_.empty()) return;
    const Piece piece = queue_.front();
    queue_.pop_front();
    ++writing_;
    const bool skip = !status_.ok();
    lock.unlock();
    IoStatus status = skip ? IoStatus{} : target_.write_past_cache(piece.offset, piece.bytes, piece.data);
    lock.lock();
    if (status_.ok() && !status.ok()) status_ = status;
    piece.buffer->free = true;
    --writing_;
    changed_.notify_all();
  }
}

}  // namespace cambium

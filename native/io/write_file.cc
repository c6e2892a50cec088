#include "io/write_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <vector>

namespace cambium {
namespace {

constexpr uint64_t kPiece = 1 << 20;

IoStatus copy_through_memory(const ReadFile& from, uint64_t from_offset, const WriteFile& to, uint64_t offset, uint64_t bytes) {
  std::vector<char> buffer(static_cast<size_t>(bytes < kPiece ? bytes : kPiece));
  for (uint64_t done = 0; done < bytes; done += buffer.size()) {
    const uint64_t part = bytes - done < buffer.size() ? bytes - done : buffer.size();
    IoStatus status = from.read(from_offset + done, part, buffer.data());
    if (status.ok()) status = to.write(offset + done, part, buffer.data());
    if (!status.ok()) return status;
  }
  return {};
}

}  // namespace

WriteFile::~WriteFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
  if (direct_ >= 0) ::close(direct_);
}

IoStatus WriteFile::create(const std::string& path, uint64_t size) {
  do {
    descriptor_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  } while (descriptor_ < 0 && errno == EINTR);
  if (descriptor_ < 0) return IoStatus::system(path, errno);
  path_ = path;
  if (::ftruncate(descriptor_, static_cast<off_t>(size)) != 0) return IoStatus::system(path, errno);
#if defined(__linux__)
  // Room first: a full disk is known before the work, and direct writes need not wait for each other to find blocks.
  if (size > 0 && ::fallocate(descriptor_, 0, 0, static_cast<off_t>(size)) != 0 && (errno == ENOSPC || errno == EDQUOT || errno == EFBIG)) return IoStatus::system(path, errno);
  direct_ = ::open(path.c_str(), O_WRONLY | O_CLOEXEC | O_DIRECT);
#endif
  return {};
}

IoStatus WriteFile::write(uint64_t offset, uint64_t bytes, const void* src) const { return write_to(descriptor_, offset, bytes, src); }

IoStatus WriteFile::write_past_cache(uint64_t offset, uint64_t bytes, const void* src) const {
  const char* from = static_cast<const char*>(src);
  const uint64_t end = offset + bytes, first = (offset + kPage - 1) / kPage * kPage, last = end / kPage * kPage;
  const bool agree = (reinterpret_cast<uintptr_t>(from) - offset) % kPage == 0;
  if (direct_ >= 0 && agree && first < last) {
    IoStatus status = write_to(direct_, first, last - first, from + (first - offset));
    if (status.ok() && offset < first) status = write(offset, first - offset, from);
    if (status.ok() && last < end) status = write(last, end - last, from + (last - offset));
    if (status.ok() || std::strcmp(status.code, "E_NO_SPACE") == 0) return status;
  }
  // A file system that opens but does not write this way, or a piece within a page.
  IoStatus status = write(offset, bytes, src);
  if (status.ok()) start_writeback(offset, bytes);
  return status;
}

IoStatus WriteFile::write_to(int descriptor, uint64_t offset, uint64_t bytes, const void* src) const {
  const char* from = static_cast<const char*>(src);
  for (uint64_t done = 0; done < bytes;) {
    const uint64_t left = bytes - done;
    const ssize_t put = ::pwrite(descriptor, from + done, static_cast<size_t>(left < (1u << 30) ? left : (1u << 30)), static_cast<off_t>(offset + done));
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return IoStatus::system(path_, errno);
    done += static_cast<uint64_t>(put);
  }
  return {};
}

IoStatus WriteFile::copy(const ReadFile& from, uint64_t from_offset, uint64_t offset, uint64_t bytes) const {
  uint64_t done = 0;
#if defined(__linux__)
  while (done < bytes) {
    off_t in = static_cast<off_t>(from_offset + done), out = static_cast<off_t>(offset + done);
    const ssize_t put = ::copy_file_range(from.descriptor(), &in, descriptor_, &out, static_cast<size_t>(bytes - done), 0);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0 && (errno == ENOSPC || errno == EDQUOT || errno == EFBIG)) return IoStatus::system(path_, errno);
    if (put <= 0) break;  // another file system, an old kernel, or a file that shrank: the plain way knows
    done += static_cast<uint64_t>(put);
  }
#endif
  return copy_through_memory(from, from_offset + done, *this, offset + done, bytes - done);
}

void WriteFile::start_writeback(uint64_t offset, uint64_t bytes) const {
#if defined(__linux__)
  ::sync_file_range(descriptor_, static_cast<off_t>(offset), static_cast<off_t>(bytes), SYNC_FILE_RANGE_WRITE);
#else
  (void)offset, (void)bytes;
#endif
}

IoStatus WriteFile::sync() const {
  if (::fsync(descriptor_) != 0) return IoStatus::system(path_, errno);
  return {};
}

}  // namespace cambium

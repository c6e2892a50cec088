#include "file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace cambium {

IoStatus IoStatus::system(const std::string& what, int errno_value) {
  const char* code = "E_IO";
  if (errno_value == ENOENT || errno_value == ENOTDIR) code = "E_NOT_FOUND";
  if (errno_value == ENOSPC || errno_value == EDQUOT || errno_value == EFBIG) code = "E_NO_SPACE";
  return error(code, what + ": " + std::strerror(errno_value));
}

ReadFile::~ReadFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

namespace {

IoStatus changed(const std::string& path, uint64_t expected, uint64_t now) {
  return IoStatus::error("E_FILE_CHANGED", path + ": expected " + std::to_string(expected) +
                                               " bytes, as when its header was read, got " + std::to_string(now));
}

}  // namespace

IoStatus ReadFile::open(const std::string& path, uint64_t expected_size) {
  if (descriptor_ >= 0) return IoStatus::error("E_IO", path + ": a file is already open here");
  do {
    descriptor_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  } while (descriptor_ < 0 && errno == EINTR);
  if (descriptor_ < 0) return IoStatus::system(path, errno);
  path_ = path;
  size_ = expected_size;
  struct stat info;
  if (::fstat(descriptor_, &info) != 0) return IoStatus::system(path, errno);
  if (!S_ISREG(info.st_mode)) return IoStatus::error("E_IO", path + ": expected a regular file");
  return check_unchanged();
}

IoStatus ReadFile::read(uint64_t offset, uint64_t bytes, void* dst) const {
  if (offset > size_ || bytes > size_ - offset) {
    return IoStatus::error("E_RANGE", path_ + ": expected a range inside " + std::to_string(size_) + " bytes, got " +
                                          std::to_string(bytes) + " at " + std::to_string(offset));
  }
  char* to = static_cast<char*>(dst);
  uint64_t done = 0;
  while (done < bytes) {
    const uint64_t left = bytes - done;
    const size_t step = left < (1u << 30) ? static_cast<size_t>(left) : (1u << 30);
    const ssize_t got = ::pread(descriptor_, to + done, step, static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return IoStatus::system(path_, errno);
    if (got == 0) return changed(path_, size_, offset + done);
    done += static_cast<uint64_t>(got);
  }
  return {};
}

void ReadFile::will_need(uint64_t offset, uint64_t bytes) const {
#if defined(POSIX_FADV_WILLNEED)
  ::posix_fadvise(descriptor_, static_cast<off_t>(offset), static_cast<off_t>(bytes), POSIX_FADV_WILLNEED);
#else
  (void)offset, (void)bytes;
#endif
}

void ReadFile::will_not_need(uint64_t offset, uint64_t bytes) const {
#if defined(POSIX_FADV_DONTNEED)
  ::posix_fadvise(descriptor_, static_cast<off_t>(offset), static_cast<off_t>(bytes), POSIX_FADV_DONTNEED);
#else
  (void)offset, (void)bytes;
#endif
}

bool ReadFile::is_cached(uint64_t offset) const {
#if defined(__linux__) && defined(RWF_NOWAIT)
  char byte;
  const struct iovec where = {&byte, 1};
  return ::preadv2(descriptor_, &where, 1, static_cast<off_t>(offset), RWF_NOWAIT) == 1;
#else
  (void)offset;
  return false;
#endif
}

IoStatus ReadFile::check_unchanged() const {
  struct stat info;
  if (::fstat(descriptor_, &info) != 0) return IoStatus::system(path_, errno);
  if (static_cast<uint64_t>(info.st_size) != size_) return changed(path_, size_, static_cast<uint64_t>(info.st_size));
  return {};
}

IoStatus read_file_range(const std::string& path, uint64_t offset, uint64_t bytes, void* dst, uint64_t expected_size) {
  ReadFile file;
  IoStatus status = file.open(path, expected_size);
  if (status.ok()) status = file.read(offset, bytes, dst);
  if (status.ok()) status = file.check_unchanged();
  return status;
}

}  // namespace cambium

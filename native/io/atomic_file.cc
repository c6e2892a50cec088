#include "atomic_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>

namespace cambium {

namespace {

std::string folder_of(const std::string& path) {
  const size_t slash = path.find_last_of('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

// Unique in this process by the counter, among processes by the process id; O_EXCL settles the rest.
std::string aside_name(const std::string& path) {
  static std::atomic<unsigned> counter{0};
  const size_t slash = path.find_last_of('/');
  const std::string name = slash == std::string::npos ? path : path.substr(slash + 1);
  return folder_of(path) + "/." + name + "." + std::to_string(::getpid()) + "-" + std::to_string(counter++) + ".tmp";
}

// Some file systems (network, FUSE) cannot sync a folder: their answer EINVAL is not a failure.
IoStatus sync_folder(const std::string& folder) {
  const int descriptor = ::open(folder.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return IoStatus::system(folder, errno);
  const int result = ::fsync(descriptor);
  const int error = errno;
  ::close(descriptor);
  return result == 0 || error == EINVAL || error == EROFS ? IoStatus{} : IoStatus::system(folder, error);
}

}  // namespace

AtomicFile::~AtomicFile() { abort(); }

IoStatus AtomicFile::open(const std::string& path) {
  if (descriptor_ >= 0) return IoStatus::error("E_IO", path + ": a file is already open here");
  for (int attempt = 0; attempt < 100; ++attempt) {
    const std::string aside = aside_name(path);
    const int descriptor = ::open(aside.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (descriptor < 0 && (errno == EEXIST || errno == EINTR)) continue;  // left by a killed run with our process id
    if (descriptor < 0) return IoStatus::system(path, errno);
    descriptor_ = descriptor;
    aside_ = aside;
    path_ = path;
    written_ = 0;
    struct stat info;
    if (::stat(path.c_str(), &info) == 0) (void)!::fchmod(descriptor, info.st_mode & 0777);  // a wish, not a condition
    return {};
  }
  return IoStatus::error("E_IO", path + ": found no free name for the file aside");
}

IoStatus AtomicFile::write(const void* bytes, size_t count) {
  if (descriptor_ < 0) return IoStatus::error("E_IO", "write: expected an open file");
  const char* from = static_cast<const char*>(bytes);
  size_t done = 0;
  while (done < count) {
    const size_t left = count - done;
    const ssize_t got = ::write(descriptor_, from + done, left < (1u << 30) ? left : (1u << 30));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return IoStatus::system(path_, errno);
    done += static_cast<size_t>(got);
  }
  written_ += count;
  return {};
}

IoStatus AtomicFile::commit() {
  if (descriptor_ < 0) return IoStatus::error("E_IO", "commit: expected an open file");
  IoStatus status;
  if (::fsync(descriptor_) != 0) status = IoStatus::system(path_, errno);
  if (::close(descriptor_) != 0 && status.ok())
    status = IoStatus::system(path_, errno);  // NFS reports a full disk here
  descriptor_ = -1;
  if (status.ok() && std::rename(aside_.c_str(), path_.c_str()) != 0) status = IoStatus::system(path_, errno);
  if (!status.ok()) {
    abort();
    return status;
  }
  aside_.clear();
  return sync_folder(folder_of(path_));
}

void AtomicFile::abort() {
  if (descriptor_ >= 0) ::close(descriptor_);
  descriptor_ = -1;
  if (!aside_.empty()) ::unlink(aside_.c_str());
  aside_.clear();
}

IoStatus write_file_atomic(const std::string& path, const BytePart* parts, size_t part_count) {
  AtomicFile file;
  IoStatus status = file.open(path);
  for (size_t i = 0; i < part_count && status.ok(); ++i) status = file.write(parts[i].bytes, parts[i].count);
  return status.ok() ? file.commit() : status;  // the destructor removes what is left aside
}

}  // namespace cambium

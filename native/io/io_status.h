// The result of a file or image function: no exception leaves native/io, and a failure carries the library's stable
// code.
#pragma once

#include <string>
#include <utility>

namespace cambium {

struct IoStatus {
  const char* code = nullptr;  // null when all is well; else E_IO, E_NOT_FOUND, E_FILE_CHANGED, E_NO_SPACE, E_RANGE, …
  std::string message;

  bool ok() const { return code == nullptr; }

  static IoStatus error(const char* code, std::string message) {
    IoStatus status;
    status.code = code;
    status.message = std::move(message);
    return status;
  }

  // `what` and the system's own sentence, with the code that fits `errno_value`.
  static IoStatus system(const std::string& what, int errno_value);
};

}  // namespace cambium

#include "read_tensor.h"

#include <cstring>
#include <new>
#include <vector>

#include "file.h"

namespace cambium {

namespace {

constexpr uint64_t kStageBytes = 1 << 20;  // read and converted piece by piece, so that the second pass hits the cache

IoStatus read_converted(const ReadFile& file, const TensorRead& request, char* dst) {
  const size_t from_size = element_size(request.from), to_size = element_size(request.to);
  if (request.from == request.to) return file.read(request.offset, request.count * from_size, dst);
  const uint64_t step = kStageBytes / from_size;
  std::vector<char> stage(static_cast<size_t>(kStageBytes));
  for (uint64_t done = 0; done < request.count; done += step) {
    const uint64_t count = request.count - done < step ? request.count - done : step;
    IoStatus status = file.read(request.offset + done * from_size, count * from_size, stage.data());
    if (status.ok()) {
      status =
          convert_elements(stage.data(), request.from, dst + done * to_size, request.to, static_cast<size_t>(count));
    }
    if (!status.ok()) return status;
  }
  return {};
}

IoStatus check(const TensorRead& request) {
  if (element_size(request.from) == 0 || element_size(request.to) == 0) {
    return IoStatus::error("E_DTYPE", request.path + ": expected known element types");
  }
  if (request.count > UINT64_MAX / 16) return IoStatus::error("E_SHAPE", request.path + ": too many elements");
  if (request.transpose_rows != 0 && request.count % request.transpose_rows != 0) {
    return IoStatus::error("E_SHAPE", request.path + ": expected a number of elements divisible by the rows");
  }
  return {};
}

}  // namespace

IoStatus read_tensor(const TensorRead& request, void* dst) {
  IoStatus status = check(request);
  ReadFile file;
  if (status.ok()) status = file.open(request.path, request.expected_size);
  if (!status.ok()) return status;
  try {
    if (request.transpose_rows == 0) {
      status = read_converted(file, request, static_cast<char*>(dst));
    } else {
      std::vector<char> plain(static_cast<size_t>(request.count * element_size(request.to)));
      status = read_converted(file, request, plain.data());
      const size_t rows = static_cast<size_t>(request.transpose_rows);
      if (status.ok()) {
        transpose_elements(plain.data(), rows, static_cast<size_t>(request.count) / rows, element_size(request.to),
                           dst);
      }
    }
  } catch (const std::bad_alloc&) {
    return IoStatus::error("E_NO_MEMORY",
                           request.path + ": no memory to read " + std::to_string(request.count) + " elements");
  }
  return status.ok() ? file.check_unchanged() : status;
}

}  // namespace cambium

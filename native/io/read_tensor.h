// Reading a tensor's elements from a validated safetensors file, with conversion of the type and, for the weights that
// OpenAI's layout stores as [in, out], transposition on the way.
#pragma once

#include <cstdint>
#include <string>

#include "element_type.h"
#include "io_status.h"

namespace cambium {

struct TensorRead {
  std::string path;
  uint64_t offset = 0;  // absolute, in bytes
  uint64_t count = 0;   // elements
  ElementType from = ElementType::kF32;
  ElementType to = ElementType::kF32;
  uint64_t expected_size = 0;  // of the whole file when its header was validated
  uint64_t transpose_rows =
      0;  // not 0: the file holds [transpose_rows, count / transpose_rows]; dst gets its transpose
};

// Fills dst with count * element_size(to) bytes. Errors: those of ReadFile, E_DTYPE, E_RANGE, E_SHAPE.
IoStatus read_tensor(const TensorRead& request, void* dst);

}  // namespace cambium

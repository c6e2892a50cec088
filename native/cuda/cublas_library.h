// The cuBLASLt of this process, once open_cublas has found one.
#pragma once
#include "cuda/cublas_lt.h"

namespace cambium {
namespace cuda {

struct Cublas {
  lt::Library library;
  lt::Handle handle;  // null: none
};
const Cublas& cublas();

}  // namespace cuda
}  // namespace cambium

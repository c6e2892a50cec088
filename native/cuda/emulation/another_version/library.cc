// A library of CUDA kernels of another version, for the test that it is refused: of its device nothing is known but the first two
// fields, and calling what lies behind them would end the process.
#include <cstring>

#include "ops/device.h"

extern "C" __attribute__((visibility("default"))) int cambium_cuda_open(CbDevice** out, const char*, char*, size_t) {
  static Backend table;
  static CbDevice device;
  std::memset(static_cast<void*>(&device), 0x11, sizeof device);
  device.version = 1, device.size = 64, device.backend = &table;
  *out = &device;
  return CB_OK;
}

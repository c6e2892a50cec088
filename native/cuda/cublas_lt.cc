#include "cuda/cublas_lt.h"
namespace cambium { namespace cuda {
void open_cublas(Device& device, const char*) { snprintf(device.products, sizeof device.products, "own"); }
bool multiply_by_cublas(CbContext*, int32_t, const Product&, int*) { return false; }
} }

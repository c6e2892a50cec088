#include "cuda/table.h"

#include "cuda/kernels.h"

namespace cambium {
namespace cuda {

const Backend table = {CB_ABI_VERSION, sizeof(Backend), "cuda", "cuda",
#define X(op) op##_forward, op##_backward,
                       CAMBIUM_OPS(X)
#undef X
#define X(op) op,
                           CAMBIUM_FORWARD_OPS(X)
#undef X
};

}  // namespace cuda
}  // namespace cambium

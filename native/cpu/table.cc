// The Backend table of one op level: this unit is compiled once per level, like the kernels it points to.
#include "cpu/kernels.h"

namespace cambium {
namespace CAMBIUM_LEVEL {

extern const Backend backend;
const Backend backend = {CB_ABI_VERSION, sizeof(Backend), "cpu", "", 0,  // cpu_backend() fills in the level in force
#define X(op) op##_forward, op##_backward,
                         CAMBIUM_OPS(X)
#undef X
#define X(op) op,
                             CAMBIUM_FORWARD_OPS(X)
#undef X
};

}  // namespace CAMBIUM_LEVEL
}  // namespace cambium

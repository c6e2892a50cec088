// The Backend table of one op level: this unit is compiled once per level, like the kernels it points to.
#include "cpu/kernels.h"

namespace cambium {
namespace CAMBIUM_LEVEL {

extern const Backend backend;
const Backend backend = {CB_ABI_VERSION, sizeof(Backend), "cpu", "", 0,  // cpu_backend() fills in the level in force
                         CAMBIUM_OPS(CB_OP_ENTRIES) CAMBIUM_FORWARD_OPS(CB_FORWARD_OP_ENTRY)};

}  // namespace CAMBIUM_LEVEL
}  // namespace cambium

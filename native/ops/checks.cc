#include "ops/ops.h"

namespace cambium {

void expect_type(const char* op, const char* name, const Tensor& t, DType type) {
  if (!t) fail("E_ARGUMENT", "%s: expected %s, got none", op, name);
  if (t->dtype != type) fail("E_DTYPE", "%s: expected %s of type %s, got %s", op, name, name_of(type), name_of(t->dtype));
}

void expect_float(const char* op, const char* name, const Tensor& t) {
  if (!t) fail("E_ARGUMENT", "%s: expected %s, got none", op, name);
  if (t->dtype != DType::f32 && t->dtype != DType::bf16) fail("E_DTYPE", "%s: expected %s of type f32 or bf16, got %s", op, name, name_of(t->dtype));
}

void expect_shape(const char* op, const char* name, const Tensor& t, const Shape& shape) {
  if (t->shape != shape) fail("E_SHAPE", "%s: expected %s of shape %s, got %s", op, name, shape.text().c_str(), t->shape.text().c_str());
}

}  // namespace cambium

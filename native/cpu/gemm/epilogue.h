// What happens to a tile of the product on its way from the accumulators to memory; see Epilogue in gemm.h.
#pragma once
#include "../simd.h"
#include "gemm.h"

namespace cambium {
namespace CAMBIUM_LEVEL {

CAMBIUM_INLINE vf activate(int32_t activation, vf x) { return activation == 1 ? quick_gelu(x) : gelu(x); }
CAMBIUM_INLINE vf activation_derivative(int32_t activation, vf x) {
  return activation == 1 ? quick_gelu_derivative(x) : gelu_derivative(x);
}

// n lanes (WHOLE: all W) of row `row` from column `column` on.
template <bool WHOLE>
CAMBIUM_INLINE void finish(const GemmCall& call, vf t, vf scale, int64_t row, int64_t column, int n) {
  const Epilogue& e = call.epilogue;
  const int64_t index = row * call.n + column;
  const auto read = [&](Element type, const void* p) {
    return WHOLE ? load_any(type, p, index) : load_any_n(type, p, index, n);
  };
  if (e.raw) WHOLE ? store_any(e.raw_type, e.raw, index, t) : store_any_n(e.raw_type, e.raw, index, t, n);
  if (e.column_scale) t = t * (WHOLE ? load(e.column_scale + column) : load_n(e.column_scale + column, n));
  if (e.bias) t = fma(t, scale, WHOLE ? load(e.bias + column) : load_n(e.bias + column, n));
  else t = t * scale;
  if (e.pre) WHOLE ? store_any(e.pre_type, e.pre, index, t) : store_any_n(e.pre_type, e.pre, index, t, n);
  if (e.derivative_of) t = t * activation_derivative(e.activation, read(e.derivative_type, e.derivative_of));
  else if (e.activation) t = activate(e.activation, t);
  if (e.residual) t = t + read(e.residual_type, e.residual);
  if (e.skip) t = t + read(e.skip_type, e.skip);
  if (e.accumulate) t = t + read(call.c_type, call.c);
  WHOLE ? store_any(call.c_type, call.c, index, t) : store_any_n(call.c_type, call.c, index, t, n);
}

// Rows [row, row + rows) and columns [column, column + columns) of the result, from acc with `ld` floats a row.
inline void finish_tile(const GemmCall& call, const float* acc, int ld, int64_t row, int rows, int64_t column,
                        int columns) {
  const vf scale = set(call.epilogue.scale ? *call.epilogue.scale : 1.f);
  for (int i = 0; i < rows; ++i, acc += ld) {
    int j = 0;
    for (; j + W <= columns; j += W) finish<true>(call, load(acc + j), scale, row + i, column + j, W);
    if (j < columns) finish<false>(call, load(acc + j), scale, row + i, column + j, columns - j);
  }
}

// Asks for the lines that finish_tile will touch, early enough that the product hides the way to memory.
inline void prefetch_tile(const GemmCall& call, int64_t row, int rows, int64_t column, int columns) {
  const Epilogue& e = call.epilogue;
  const auto touch = [&](const void* base, Element type) {
    if (!base) return;
    const int64_t size = int64_t(element_size(type));
    for (int i = 0; i < rows; ++i) {
      const char* const p = static_cast<const char*>(base) + ((row + i) * call.n + column) * size;
      for (int64_t byte = 0; byte < columns * size; byte += 64) __builtin_prefetch(p + byte);
    }
  };
  touch(call.c, call.c_type);
  touch(e.derivative_of, e.derivative_type);
  touch(e.residual, e.residual_type);
  touch(e.skip, e.skip_type);
}

}  // namespace CAMBIUM_LEVEL
}  // namespace cambium

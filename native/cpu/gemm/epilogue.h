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

// The epilogues that a training step is made of, without a question per vector: bias, then either nothing, or an
// activation whose argument is kept, or additions. C is the result's type, and that of what is kept.
enum class Extra { none, activation, additions };

template <Element C, Extra X>
void finish_rows(const GemmCall& call, const float* acc, int ld, int64_t row, int rows, int64_t column, int columns) {
  const Epilogue e = call.epilogue;  // a copy: what is stored cannot be seen to leave it alone
  void* const c = call.c;
  const int64_t n = call.n;
  const vf scale = set(e.scale ? *e.scale : 1.f);
  const bool quick = e.activation == 1;
  for (int i = 0; i < rows; ++i, acc += ld) {
    const int64_t at = (row + i) * n + column;
    for (int j = 0; j < columns; j += W) {
      vf t = load(acc + j);
      t = e.bias ? fma(t, scale, load(e.bias + column + j)) : t * scale;
      if (X == Extra::activation) {
        if (e.pre) store_as<C>(e.pre, at + j, t);
        t = quick ? quick_gelu(t) : gelu(t);
      }
      if (X == Extra::additions) {
        if (e.residual) t = t + load_any(e.residual_type, e.residual, at + j);
        if (e.skip) t = t + load_any(e.skip_type, e.skip, at + j);
        if (e.accumulate) t = t + load_as<C>(c, at + j);
      }
      store_as<C>(c, at + j, t);
    }
  }
}

template <Element C>
CAMBIUM_INLINE void finish_whole(const GemmCall& call, const float* acc, int ld, int64_t row, int rows, int64_t column,
                                 int columns) {
  const Epilogue& e = call.epilogue;
  if (e.activation) finish_rows<C, Extra::activation>(call, acc, ld, row, rows, column, columns);
  else if (e.residual || e.skip || e.accumulate)
    finish_rows<C, Extra::additions>(call, acc, ld, row, rows, column, columns);
  else finish_rows<C, Extra::none>(call, acc, ld, row, rows, column, columns);
}

// Rows [row, row + rows) and columns [column, column + columns) of the result, from acc with `ld` floats a row.
inline void finish_tile(const GemmCall& call, const float* acc, int ld, int64_t row, int rows, int64_t column,
                        int columns) {
  const Epilogue& e = call.epilogue;
  const bool added = e.residual || e.skip || e.accumulate;
  const bool usual = !e.raw && !e.column_scale && !e.derivative_of && !(e.activation && added) &&
                     (!e.pre || (e.activation && e.pre_type == call.c_type));
  if (usual && columns % W == 0) {
    if (call.c_type == Element::f32) finish_whole<Element::f32>(call, acc, ld, row, rows, column, columns);
    else finish_whole<Element::bf16>(call, acc, ld, row, rows, column, columns);
    return;
  }
  const vf scale = set(e.scale ? *e.scale : 1.f);
  for (int i = 0; i < rows; ++i, acc += ld) {
    int j = 0;
    for (; j + W <= columns; j += W) finish<true>(call, load(acc + j), scale, row + i, column + j, W);
    if (j < columns) finish<false>(call, load(acc + j), scale, row + i, column + j, columns - j);
  }
}

// The lines that finish_tile will touch.
inline Ahead lines_of_tile(const GemmCall& call, int64_t row, int rows, int64_t column, int columns) {
  const Epilogue& e = call.epilogue;
  Ahead ahead;
  ahead.arrays = 0, ahead.rows = rows;
  const auto add = [&](const void* base, Element type) {
    if (!base || ahead.arrays == kAheadTile) return;
    const int64_t size = int64_t(element_size(type)), i = ahead.arrays++;
    ahead.row[i] = static_cast<const char*>(base) + (row * call.n + column) * size;
    ahead.stride[i] = call.n * size, ahead.bytes[i] = int(columns * size);
  };
  add(e.residual, e.residual_type);
  add(call.c, call.c_type);
  add(e.derivative_of, e.derivative_type);
  add(e.pre, e.pre_type);
  add(e.skip, e.skip_type);
  ahead.near = ahead.arrays;
  return ahead;
}

}  // namespace CAMBIUM_LEVEL
}  // namespace cambium

// cast, fill, copy, interpolate: movement of elements and bytes. 16-bit results are rounded to nearest even, NaN stays
// NaN.
#include "cpu/elementwise.h"
#include "cpu/f16.h"
#include "cpu/kernels.h"

namespace cambium {
namespace CAMBIUM_LEVEL {
namespace {

CAMBIUM_INLINE void store_cast(int32_t type, void* y, int64_t i, vf x, int n) {
  if (type == CB_F32) return Output(y, type).put(i, x, n);
  if (type == CB_BF16) {  // conversion keeps the smallest numbers, whatever instructions there are
    const vh h = narrow_exact(x);
    __builtin_memcpy(static_cast<uint16_t*>(y) + i, &h, size_t(n) * sizeof(uint16_t));
    return;
  }
  const vi h = narrow_f16(x);
  for (int lane = 0; lane < n; ++lane) static_cast<uint16_t*>(y)[i + lane] = uint16_t(h[lane]);
}

constexpr int64_t kTaskBytes = 1 << 18;

}  // namespace

int cast(CbContext*, const cast_args* f) {
  const cast_args c = *f;
  elementwise(c.count, [=](int64_t i, int n) {
    vf x = load_cast(c.x_type, c.x, i, n);
    if (c.accumulate) x += load_cast(c.y_type, c.y, i, n);
    store_cast(c.y_type, c.y, i, x, n);
  });
  return CB_OK;
}

int fill(CbContext*, const fill_args* f) {
  parallel_for(divide_up(f->bytes, kTaskBytes), [=](int64_t task) {
    const int64_t begin = task * kTaskBytes;
    __builtin_memset(static_cast<uint8_t*>(f->y) + begin, f->value, size_t(smaller(kTaskBytes, f->bytes - begin)));
  });
  return CB_OK;
}

int copy(CbContext*, const copy_args* f) {
  parallel_for(divide_up(f->bytes, kTaskBytes), [=](int64_t task) {
    const int64_t begin = task * kTaskBytes;
    __builtin_memcpy(static_cast<uint8_t*>(f->y) + begin, static_cast<const uint8_t*>(f->x) + begin,
                     size_t(smaller(kTaskBytes, f->bytes - begin)));
  });
  return CB_OK;
}

int interpolate(CbContext*, const interpolate_args* f) {
  const interpolate_args c = *f;
  const vf t = set(c.t), rest = set(1.f - c.t);
  elementwise(c.count, [=](int64_t i, int n) {
    const vf a = load_cast(c.a_type, c.a, i, n), b = load_cast(c.b_type, c.b, i, n);
    store_cast(c.y_type, c.y, i, fma(t, b, rest * a), n);
  });
  return CB_OK;
}

}  // namespace CAMBIUM_LEVEL
}  // namespace cambium

// cast, fill, copy, interpolate: movement of elements and bytes. 16-bit results are rounded to nearest even, NaN stays
// NaN.
#include "cpu/elementwise.h"
#include "cpu/kernels.h"

namespace cambium {
namespace CAMBIUM_LEVEL {
namespace {

// IEEE half precision by integer arithmetic, so that no level needs an instruction of its own.
CAMBIUM_INLINE vf widen_f16(vi h) {
  const vi magnitude = (h & 0x7fff) << 13;
  vf x = as_float(magnitude) * 0x1p112f;  // rebias the exponent; exact for subnormals too
  x = (h & 0x7c00) == 0x7c00 ? as_float(magnitude | 0x7f800000) : x;
  return as_float(as_int(x) | ((h & 0x8000) << 16));
}

CAMBIUM_INLINE vi narrow_f16(vf x) {
  const vi bits = as_int(x) & 0x7fffffff, sign = (vi)(((vu)as_int(x) >> 16) & 0x8000);
  const vi normal = (bits - (112 << 23) + 0xfff + ((bits >> 13) & 1)) >> 13;
  const vi tiny = as_int(as_float(bits) + 0.5f) - 0x3f000000;  // 0.5 has the unit of f16's subnormals, 2^-24
  vi h = bits < 0x38800000 ? tiny : normal;                    // below 2^-14
  h = bits >= 0x477ff000 ? set_int(0x7c00) : h;                // 65520 and above round to infinity
  h = bits > 0x7f800000 ? set_int(0x7e00) : h;
  return h | sign;
}

CAMBIUM_INLINE vf load_cast(int32_t type, const void* x, int64_t i, int n) {
  if (type != CB_F16) return Input(x, type).at(i, n);
  vi h{};
  for (int lane = 0; lane < n; ++lane) h[lane] = static_cast<const uint16_t*>(x)[i + lane];
  return widen_f16(h);
}

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

// cast, fill, copy, interpolate: movement of elements and bytes. 16-bit results are rounded to nearest even, NaN stays
// NaN.
#include "cuda/elementwise.h"
#include "cuda/f16.h"
#include "cuda/kernels.h"

namespace cambium {
namespace cuda {
namespace {

__device__ uint16_t narrow_f16(float x) {
  const uint32_t bits = bits_of(x) & 0x7fffffff, sign = (bits_of(x) >> 16) & 0x8000;
  uint32_t h = (bits - (112u << 23) + 0xfff + ((bits >> 13) & 1)) >> 13;
  if (bits < 0x38800000)
    h = bits_of(float_of(bits) + 0.5f) - 0x3f000000;  // below 2^-14: 0.5 has the unit of subnormals
  if (bits >= 0x477ff000) h = 0x7c00;                 // 65520 and above round to infinity
  if (bits > 0x7f800000) h = 0x7e00;
  return uint16_t(h | sign);
}

__device__ void store_any(void* y, int32_t type, int64_t i, int n, float (&v)[kLanes]) {
  if (type != CB_F16) return Output{y, type, 0}.store(i, n, v);
#pragma unroll
  for (int j = 0; j < kLanes; ++j)
    if (j < n) static_cast<uint16_t*>(y)[i + j] = narrow_f16(v[j]);
}

struct Cast {
  cast_args c;
  __device__ void operator()(int64_t i, int n) const {
    float v[kLanes], before[kLanes];
    load_any(c.x, c.x_type, i, n, v);
    if (c.accumulate) {
      load_any(c.y, c.y_type, i, n, before);
#pragma unroll
      for (int j = 0; j < kLanes; ++j) v[j] += before[j];
    }
    store_any(c.y, c.y_type, i, n, v);
  }
};

struct Interpolate {
  interpolate_args c;
  __device__ void operator()(int64_t i, int n) const {
    float a[kLanes], b[kLanes];
    load_any(c.a, c.a_type, i, n, a);
    load_any(c.b, c.b_type, i, n, b);
#pragma unroll
    for (int j = 0; j < kLanes; ++j) a[j] = fmaf(c.t, b[j], (1.f - c.t) * a[j]);
    store_any(c.y, c.y_type, i, n, a);
  }
};

}  // namespace

int cast(CbContext* context, const cast_args* f) { return elementwise(context, f->count, Cast{*f}); }

int interpolate(CbContext* context, const interpolate_args* f) {
  return elementwise(context, f->count, Interpolate{*f});
}

int fill(CbContext* context, const fill_args* f) {
  return f->bytes == 0 ? CB_OK
                       : CB_CHECK(context, cudaMemsetAsync(f->y, f->value, size_t(f->bytes), stream_of(context)));
}

int copy(CbContext* context, const copy_args* f) {
  if (f->bytes == 0) return CB_OK;
  return CB_CHECK(context, cudaMemcpyAsync(f->y, f->x, size_t(f->bytes), cudaMemcpyDeviceToDevice, stream_of(context)));
}

}  // namespace cuda
}  // namespace cambium

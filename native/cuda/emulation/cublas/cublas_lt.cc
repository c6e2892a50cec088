// A cuBLASLt of the emulated device, a library of its own as the real one is: plain loops with the documented meaning of what
// we set, column-major throughout. An attribute that is unknown, a size that does not fit or a pointer less aligned than
// promised is refused. CAMBIUM_EMULATION_CUBLAS: the version that it says it is, 130000 if nothing else.
// CAMBIUM_EMULATION_CUBLAS_REFUSES: the status of every product, whatever the heuristic has said.
#include <cstdlib>

#include "cuda/cublas_lt.h"
#include "cuda/warp.h"

namespace cambium {
namespace cuda {
namespace lt {
namespace {

constexpr Status kInvalid = 7, kFailed = 13;  // CUBLAS_STATUS_INVALID_VALUE, _EXECUTION_FAILED

struct Matrix {
  int type;
  uint64_t rows, columns;
  int64_t leading;
  float at(const void* data, uint64_t i, uint64_t j) const {
    const uint64_t place = j * uint64_t(leading) + i;
    return type == kBF16 ? __uint_as_float(uint32_t{static_cast<const uint16_t*>(data)[place]} << 16) : static_cast<const float*>(data)[place];
  }
  void put(void* data, uint64_t i, uint64_t j, float x) const {
    const uint64_t place = j * uint64_t(leading) + i;
    if (type == kF32) {
      static_cast<float*>(data)[place] = x;
      return;
    }
    const uint32_t bits = __float_as_uint(x);
    static_cast<uint16_t*>(data)[place] = uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
  }
};

struct Plan {
  int compute;
  int32_t trans_a = kPlain, trans_b = kPlain;
  uint32_t epilogue = kNoEpilogue;
  const float* bias = nullptr;
};

struct Wishes {
  uint64_t workspace = 0;
  uint32_t schemes = 7, alignment[4] = {256, 256, 256, 256};
};

template <class T>
Status store(T* to, const void* value, size_t bytes) {
  if (bytes != sizeof(T)) return kInvalid;
  std::memcpy(to, value, bytes);
  return 0;
}

Status set_plan(Description d, int attribute, const void* value, size_t bytes) {
  auto& o = *static_cast<Plan*>(d);
  switch (attribute) {
    case kTransA: return store(&o.trans_a, value, bytes);
    case kTransB: return store(&o.trans_b, value, bytes);
    case kEpilogue: return store(&o.epilogue, value, bytes);
    case kBiasPointer: return store(&o.bias, value, bytes);
    default: return kInvalid;
  }
}

Status set_wish(Preference p, int attribute, const void* value, size_t bytes) {
  auto& w = *static_cast<Wishes*>(p);
  if (attribute == kMostWorkspace) return store(&w.workspace, value, bytes);
  if (attribute == kReductionSchemes) return store(&w.schemes, value, bytes);
  if (attribute < kAlignmentA || attribute > kAlignmentD) return kInvalid;
  return store(&w.alignment[attribute - kAlignmentA], value, bytes);
}

bool fits(const Plan& o, const Matrix& a, const Matrix& b, const Matrix& d) {
  const uint64_t m = o.trans_a ? a.columns : a.rows, k = o.trans_a ? a.rows : a.columns;
  const uint64_t bk = o.trans_b ? b.columns : b.rows, n = o.trans_b ? b.rows : b.columns;
  const bool leading = a.leading >= int64_t(a.rows) && b.leading >= int64_t(b.rows) && d.leading >= int64_t(d.rows);
  const bool types = a.type == b.type && (d.type == kF32 || d.type == a.type) && !(o.epilogue == kBias && d.type != kF32);
  return m == d.rows && n == d.columns && k == bk && leading && types;
}

Status heuristic(Description o, Layout a, Layout b, Layout d, Preference p, Heuristic* out, int* found) {
  if (!fits(*static_cast<Plan*>(o), *static_cast<Matrix*>(a), *static_cast<Matrix*>(b), *static_cast<Matrix*>(d))) return kInvalid;
  const auto& w = *static_cast<Wishes*>(p);
  *out = {};
  for (int i = 0; i < 4; ++i) out->algorithm.data[i] = w.alignment[i];
  out->workspace = size_t(w.workspace < 4096 ? w.workspace : 4096);
  *found = 1;
  return 0;
}

Status matmul(Description description, const void* alpha, const void* a, Layout la, const void* b, Layout lb, const void* beta, const void* c, void* d,
              Layout ld, const Algorithm* algorithm, void* workspace, size_t bytes, cudaStream_t stream) {
  if (const char* const refuses = std::getenv("CAMBIUM_EMULATION_CUBLAS_REFUSES")) return std::atoi(refuses);
  const Plan o = *static_cast<Plan*>(description);
  const Matrix ma = *static_cast<Matrix*>(la), mb = *static_cast<Matrix*>(lb), md = *static_cast<Matrix*>(ld);
  const void* const pointers[4] = {a, b, c, d};
  for (int i = 0; i < 4; ++i)
    if (reinterpret_cast<uintptr_t>(pointers[i]) % algorithm->data[i] != 0) return kInvalid;
  if (!fits(o, ma, mb, md) || (bytes > 0 && !workspace)) return kInvalid;
  if (reinterpret_cast<uintptr_t>(o.bias) % 16 != 0) return kFailed;  // there it is an address that its kernel cannot read
  const float scale = *static_cast<const float*>(alpha), keep = *static_cast<const float*>(beta);
  const uint64_t k = o.trans_a ? ma.rows : ma.columns;
  const bool rounds = o.compute == kComputeFastTF32;
  const auto operand = [rounds](float x) { return rounds ? round_tf32(x) : x; };
  const auto work = [=] {
    for (uint64_t j = 0; j < md.columns; ++j) {
      for (uint64_t i = 0; i < md.rows; ++i) {
        float sum = 0;
        for (uint64_t l = 0; l < k; ++l) {
          sum += operand(o.trans_a ? ma.at(a, l, i) : ma.at(a, i, l)) * operand(o.trans_b ? mb.at(b, j, l) : mb.at(b, l, j));
        }
        float x = scale * sum + (keep != 0 ? keep * md.at(c, i, j) : 0);
        if (o.epilogue == kBias) x += o.bias[i];
        md.put(d, i, j, x);
      }
    }
  };
  return emulation::enqueue_launch(dim3(1), dim3(1), 0, stream, work) == cudaSuccess ? 0 : 14;
}

template <class T>
Status destroy(void* object) {
  delete static_cast<T*>(object);
  return 0;
}

}  // namespace
}  // namespace lt
}  // namespace cuda
}  // namespace cambium

using namespace cambium::cuda::lt;
#define EXPORT extern "C" __attribute__((visibility("default")))

EXPORT size_t cublasLtGetVersion() {
  const char* const version = std::getenv("CAMBIUM_EMULATION_CUBLAS");
  return version ? std::strtoul(version, nullptr, 10) : 130000;
}
EXPORT Status cublasLtCreate(Handle* out) {
  static int handle;
  *out = &handle;
  return 0;
}
EXPORT Status cublasLtMatmulDescCreate(Description* out, int compute, int scale) {
  *out = new Plan{compute};
  return (compute == kComputeF32 || compute == kComputeFastTF32) && scale == kF32 ? 0 : kInvalid;
}
EXPORT Status cublasLtMatmulDescDestroy(Description d) { return destroy<Plan>(d); }
EXPORT Status cublasLtMatmulDescSetAttribute(Description d, int attribute, const void* value, size_t bytes) {
  return set_plan(d, attribute, value, bytes);
}
EXPORT Status cublasLtMatrixLayoutCreate(Layout* out, int type, uint64_t rows, uint64_t columns, int64_t leading) {
  *out = new Matrix{type, rows, columns, leading};
  return type == kF32 || type == kBF16 ? 0 : kInvalid;
}
EXPORT Status cublasLtMatrixLayoutDestroy(Layout l) { return destroy<Matrix>(l); }
EXPORT Status cublasLtMatmulPreferenceCreate(Preference* out) {
  *out = new Wishes;
  return 0;
}
EXPORT Status cublasLtMatmulPreferenceDestroy(Preference p) { return destroy<Wishes>(p); }
EXPORT Status cublasLtMatmulPreferenceSetAttribute(Preference p, int attribute, const void* value, size_t bytes) {
  return set_wish(p, attribute, value, bytes);
}
EXPORT Status cublasLtMatmulAlgoGetHeuristic(Handle, Description o, Layout a, Layout b, Layout, Layout d, Preference p, int, Heuristic* out, int* found) {
  return heuristic(o, a, b, d, p, out, found);
}
EXPORT Status cublasLtMatmul(Handle, Description description, const void* alpha, const void* a, Layout la, const void* b, Layout lb, const void* beta,
                             const void* c, Layout, void* d, Layout ld, const Algorithm* algorithm, void* workspace, size_t bytes, cudaStream_t stream) {
  return matmul(description, alpha, a, la, b, lb, beta, c, d, ld, algorithm, workspace, bytes, stream);
}

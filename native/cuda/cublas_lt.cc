// Products by cuBLASLt. It counts columns first, so that our y [m,n] is its D [n,m], D = op(B) op(A): a matrix of ours whose
// rows lie along memory is the transpose there. The first algorithm of its heuristic is kept for a shape, types and alignment.
#include "cuda/cublas_lt.h"

#include <map>
#include <mutex>
#include <tuple>

#include "cuda/cublas_library.h"

namespace cambium {
namespace cuda {
namespace {

constexpr size_t kWorkspace = size_t{32} << 20;
#if defined(CAMBIUM_CUDA_EMULATED)
constexpr int64_t kLeastWork = 0;  // the tests' products are small
#else
constexpr int64_t kLeastWork = int64_t{1} << 22;  // multiply-adds below which its set-up outweighs the product
#endif

constexpr int64_t kMostElements = int64_t{1} << 31;  // of a matrix: cuBLASLt 13.6 chooses algorithms that fail beyond (NVIDIA/raft, issue 3097)
constexpr uint32_t kBiasAlignment = 16;  // its kernels read the bias so, whatever the preferences say (PyTorch, pull request 194497)
constexpr lt::Status kInvalidValue = 7, kNotSupported = 15;  // cublasStatus_t

int data_type(int32_t type) { return type == CB_BF16 ? lt::kBF16 : lt::kF32; }

// No more than every tensor has: what lies where must not choose the algorithm, or a step's bits would change with it.
uint32_t alignment_of(const void* at) {
  const auto bits = reinterpret_cast<uintptr_t>(at) | 64;
  return uint32_t(bits & ~(bits - 1));
}

int64_t span(const Operand& o, int64_t rows, int64_t k) { return (o.across ? k : rows) * o.stride; }

// What there is to do, in its terms.
struct Request {
  int64_t m, n, k;
  Operand a, b;
  const void* added;  // its C: y itself when accumulating, the residual, or y unread
  float beta;
  const float* bias;
  void* y;
  int32_t y_type;
  int64_t y_stride;
  int32_t compute;
};

bool request_of(CbContext* context, int32_t type, const Product& p, Request* out) {
  const Epilogue& e = p.epilogue;
  const Part& part = p.part[0];
  if (p.parts != 1 || e.gate || e.column_scale || e.act != CB_ACT_NONE || e.raw.data || e.pre.data || e.skip.data) return false;
  if (part.a.type != type || part.b.type != type || part.k == 0 || p.m * p.n * part.k < kLeastWork) return false;
  if (type == CB_F32 && e.y.type != CB_F32) return false;
  if (span(part.a, p.m, part.k) >= kMostElements || span(part.b, p.n, part.k) >= kMostElements || p.m * e.stride >= kMostElements) return false;
  if (e.bias && e.y.type != CB_F32) return false;  // it would want the bias in bf16, which errs by a third more than ours
  if (e.bias && alignment_of(e.bias) < kBiasAlignment) return false;
  if (e.residual.data && (e.residual.type != e.y.type || e.y.accumulate)) return false;
  const void* const added = e.residual.data ? e.residual.data : e.y.data;
  *out = {p.m, p.n, part.k, part.a, part.b, added, e.residual.data || e.y.accumulate ? 1.f : 0.f, e.bias, e.y.data, e.y.type, e.stride,
          type == CB_F32 && by_tf32(context, p) ? lt::kComputeFastTF32 : lt::kComputeF32};
  return true;
}

// The descriptors of one call.
class Call {
 public:
  Call(const Cublas& cublas, const Request& r) : lt_(cublas.library) {
    const int32_t b_op = r.b.across ? lt::kPlain : lt::kTransposed, a_op = r.a.across ? lt::kTransposed : lt::kPlain;
    const uint32_t epilogue = r.bias ? lt::kBias : lt::kNoEpilogue;
    keep(lt_.MatmulDescCreate(&description, r.compute, lt::kF32));
    if (!status) set(lt::kTransA, b_op), set(lt::kTransB, a_op), set(lt::kEpilogue, epilogue);
    if (!status && r.bias) set(lt::kBiasPointer, r.bias);
    layout(&b, r.b, r.n, r.k), layout(&a, r.a, r.m, r.k);
    keep(lt_.MatrixLayoutCreate(&y, data_type(r.y_type), uint64_t(r.n), uint64_t(r.m), r.y_stride));
  }
  ~Call() {
    for (lt::Layout l : {a, b, y})
      if (l) lt_.MatrixLayoutDestroy(l);
    if (description) lt_.MatmulDescDestroy(description);
  }
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  lt::Status status = 0;
  lt::Description description = nullptr;
  lt::Layout a = nullptr, b = nullptr, y = nullptr;

 private:
  void keep(lt::Status s) { status = status ? status : s; }
  template <class T>
  void set(int attribute, const T& value) {
    keep(lt_.MatmulDescSetAttribute(description, attribute, &value, sizeof value));
  }
  void layout(lt::Layout* out, const Operand& o, int64_t rows, int64_t k) {
    const uint64_t first = uint64_t(o.across ? rows : k), second = uint64_t(o.across ? k : rows);
    keep(lt_.MatrixLayoutCreate(out, data_type(o.type), first, second, o.stride));
  }
  const lt::Library& lt_;
};

using Key = std::tuple<int64_t, int64_t, int64_t, int32_t, int32_t, int32_t, bool, bool, int64_t, int64_t, int64_t, uint32_t, bool, uint32_t, uint32_t, uint32_t, uint32_t>;

Key key_of(const Request& r) {
  return {r.m,         r.n,    r.k,         r.compute, r.a.type,      r.y_type, r.a.across,           r.b.across,           r.a.stride,          r.b.stride,
          r.y_stride, r.bias ? alignment_of(r.bias) : 0, r.beta != 0, alignment_of(r.a.data), alignment_of(r.b.data), alignment_of(r.added), alignment_of(r.y)};
}

std::mutex lock;  // of what algorithm_for keeps

// Null: it has no algorithm for this.
lt::Heuristic* algorithm_for(const Cublas& cublas, const Request& r, const Call& call) {
  static auto* const kept = new std::map<Key, lt::Heuristic>;  // never freed: streams may still run when the process ends
  std::lock_guard<std::mutex> guard(lock);
  const Key key = key_of(r);
  auto it = kept->find(key);
  if (it == kept->end()) {
    lt::Preference preference = nullptr;
    lt::Heuristic best{};
    int found = 0;
    lt::Status status = cublas.library.MatmulPreferenceCreate(&preference);
    if (status) return nullptr;
    const auto set = [&](int attribute, const auto& value) {
      if (!status) status = cublas.library.MatmulPreferenceSetAttribute(preference, attribute, &value, sizeof value);
    };
    set(lt::kMostWorkspace, kWorkspace);
    set(lt::kReductionSchemes, uint32_t{lt::kReduceInComputeType});
    set(lt::kAlignmentA, alignment_of(r.b.data)), set(lt::kAlignmentB, alignment_of(r.a.data));
    set(lt::kAlignmentC, alignment_of(r.added)), set(lt::kAlignmentD, alignment_of(r.y));
    if (!status)
      status = cublas.library.MatmulAlgoGetHeuristic(cublas.handle, call.description, call.b, call.a, call.y, call.y, preference, 1, &best, &found);
    cublas.library.MatmulPreferenceDestroy(preference);
    if (status || found < 1) best.state = -1;
    it = kept->emplace(key, best).first;
  }
  return it->second.state ? nullptr : &it->second;
}

// It said that it could and then would not (PyTorch, pull request 91436): from now on the product is ours.
bool refused(lt::Status status, lt::Heuristic* kept) {
  if (status != kInvalidValue && status != kNotSupported) return false;
  std::lock_guard<std::mutex> guard(lock);
  kept->state = status;
  return true;
}

}  // namespace

bool multiply_by_cublas(CbContext* context, int32_t type, const Product& product, int* status) {
  const Cublas& cublas = cuda::cublas();
  Request r;
  if (!cublas.handle || !request_of(context, type, product, &r)) return false;
  const Call call(cublas, r);
  lt::Heuristic* const best = call.status ? nullptr : algorithm_for(cublas, r, call);
  if (!best) return false;
  void* const workspace = best->workspace ? context->scratch(context, best->workspace) : nullptr;
  if (best->workspace && !workspace) {
    *status = CB_OUT_OF_MEMORY;
    return true;
  }
  const float alpha = 1;
  const lt::Status failed = cublas.library.Matmul(cublas.handle, call.description, &alpha, r.b.data, call.b, r.a.data, call.a, &r.beta, r.added, call.y,
                                                  r.y, call.y, &best->algorithm, workspace, best->workspace, stream_of(context));
  if (refused(failed, best)) return false;
  *status = failed ? CB_DEVICE : CB_OK;
  if (failed) snprintf(context->message, 255, "cublasLtMatmul: status %d for m %lld, n %lld, k %lld", failed, (long long)r.m, (long long)r.n, (long long)r.k);
  return true;
}

}  // namespace cuda
}  // namespace cambium

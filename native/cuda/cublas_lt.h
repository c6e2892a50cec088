// cuBLASLt, as much of it as is used: declared here, opened at run time, so that this compiles and runs without cuBLAS.
// Numbers and signatures are those of NVIDIA's documentation for cuBLAS 12 and 13; a test runs the calls against a library
// of our own with the documented meaning (emulation/cublas/cublas_lt.cc).
#pragma once
#include "cuda/device.h"
#include "cuda/gemm.h"

namespace cambium {
namespace cuda {

// Looks for the library: `path` if there is one, then the usual places. Says in device.products what was found. The library is
// the process's, opened once and kept; its handle may be used by all threads. CAMBIUM_PRODUCTS=own leaves it alone.
void open_cublas(Device& device, const char* path);

// y = A Bᵀ by cuBLASLt: one part, operands of one type, and an epilogue of a bias (f32 results), a residual or accumulation
// at most. False when there is no library, the product is another or the library refuses it; then nothing is queued.
bool multiply_by_cublas(CbContext* context, int32_t type, const Product& product, int* status);

namespace lt {

using Handle = void*;
using Description = void*;
using Layout = void*;
using Preference = void*;
using Status = int;  // 0: success
struct Algorithm {
  uint64_t data[8];
};
struct Heuristic {
  Algorithm algorithm;
  size_t workspace;
  Status state;
  float waves;
  int reserved[4];
};

enum DataType : int { kF32 = 0, kBF16 = 14 };                        // cudaDataType
enum ComputeType : int { kComputeF32 = 68, kComputeFastTF32 = 77 };  // cublasComputeType_t
enum Operation : int32_t { kPlain = 0, kTransposed = 1 };            // cublasOperation_t
enum DescriptionAttribute : int { kTransA = 3, kTransB = 4, kEpilogue = 7, kBiasPointer = 8 };
enum EpilogueKind : uint32_t { kNoEpilogue = 1, kBias = 4 };
enum PreferenceAttribute : int { kMostWorkspace = 1, kReductionSchemes = 3, kAlignmentA = 5, kAlignmentB = 6, kAlignmentC = 7, kAlignmentD = 8 };

enum ReductionScheme : uint32_t { kReduceInComputeType = 2 };         // each split apart, added in order: the same bits each time

// The entry points, by their names behind `cublasLt`.
struct Library {
  size_t (*GetVersion)();
  Status (*Create)(Handle*);
  Status (*MatmulDescCreate)(Description*, int compute, int scale);
  Status (*MatmulDescDestroy)(Description);
  Status (*MatmulDescSetAttribute)(Description, int attribute, const void* value, size_t bytes);
  Status (*MatrixLayoutCreate)(Layout*, int type, uint64_t rows, uint64_t columns, int64_t leading);
  Status (*MatrixLayoutDestroy)(Layout);
  Status (*MatmulPreferenceCreate)(Preference*);
  Status (*MatmulPreferenceDestroy)(Preference);
  Status (*MatmulPreferenceSetAttribute)(Preference, int attribute, const void* value, size_t bytes);
  Status (*MatmulAlgoGetHeuristic)(Handle, Description, Layout a, Layout b, Layout c, Layout d, Preference, int wanted, Heuristic*, int* found);
  Status (*Matmul)(Handle, Description, const void* alpha, const void* a, Layout, const void* b, Layout, const void* beta, const void* c, Layout,
                   void* d, Layout, const Algorithm*, void* workspace, size_t bytes, cudaStream_t);
};

}  // namespace lt
}  // namespace cuda
}  // namespace cambium

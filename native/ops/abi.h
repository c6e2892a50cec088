// The few plain types that every op of the Backend table shares: element types, status codes, context, pack slots.
#pragma once
#include <cstddef>
#include <cstdint>

#ifdef __cplusplus
extern "C" {
#endif

enum { CB_F32 = 0, CB_BF16 = 1, CB_F16 = 2, CB_I32 = 3, CB_I64 = 4, CB_U8 = 5 };                // types of elements
enum { CB_OK = 0, CB_OUT_OF_MEMORY = 1, CB_INDEX = 2, CB_DEVICE = 3, CB_UNSUPPORTED = 4 };      // status codes
enum { CB_ACT_NONE = 0, CB_ACT_QUICK_GELU = 1, CB_ACT_GELU = 2 };

// What a kernel on another device found wrong in indices: written there by the first that does, read at the next wait.
typedef struct CbFault {
  int32_t status;  // CB_OK or CB_INDEX
  int32_t got;
  int64_t at, low, high;  // expected values in [low, high), got one at a place
  char what[64];
} CbFault;

// What a kernel may ask of its stream. `scratch` memory lives until the entry returns (in stream order) and is
// counted in the peak; null means out of memory. `message` may be filled (at most 255 characters) to explain a status.
typedef struct CbContext {
  void* (*scratch)(struct CbContext*, size_t bytes);
  void* stream;  // cudaStream_t; null on the CPU
  char* message;
  // Of another device; null on the CPU. upload: host bytes (free again on return) to device memory, in stream order.
  int (*upload)(struct CbContext*, void* to, const void* from, size_t bytes);
  CbFault* fault;  // in device memory
  int32_t tf32;    // products of f32 may round their operands to TF32, as CbDevice says
} CbContext;

// A slot beside a weight in which a backend keeps a permuted copy. Valid while `version` equals the weight's version.
typedef struct CbPack {
  void* data;
  size_t bytes;
  uint64_t version;  // 0: empty
  void (*release)(void* data);
  int64_t tag;       // which layout and type the copy has
  int64_t rows;      // of the weight that are in it, from the first on
} CbPack;

#ifdef __cplusplus
}
#endif

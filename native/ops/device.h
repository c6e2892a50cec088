// What a device other than the CPU offers besides its table of ops: memory, copies, marks in its queue, captured steps.
// A C ABI, as the table: the library that has it is opened at run time.
//
// One CbDevice is one in-order queue, of one Node environment. Memory calls come from any thread; all others from the
// stream's thread alone. A call returns a CB_ status and leaves the reason in `message`.
#pragma once
#include "ops/backend.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct CbGraph CbGraph;

typedef struct CbDevice {
  uint32_t version, size;  // CB_ABI_VERSION, sizeof(CbDevice)
  const Backend* backend;
  char name[160];     // "NVIDIA H100 80GB HBM3 (9.0)"
  char products[160];  // what multiplies matrices: "cuBLASLt 13.0 from /…" or "own; cuBLASLt: no library found"
  char message[256];
  void* stream;    // for CbContext
  CbFault* fault;  // in device memory
  int32_t tf32;    // 0 unless who opened the device asks for it: matrix products of f32 on tensor cores, 10 bits of fraction

  void* (*allocate)(struct CbDevice*, size_t bytes);  // null: no memory
  void (*release)(struct CbDevice*, void* data);      // waits for the queue first
  int (*memory)(struct CbDevice*, size_t* free, size_t* total);

  int (*upload)(struct CbDevice*, void* to, const void* from, size_t bytes);    // `from` is free again on return
  int (*download)(struct CbDevice*, void* to, const void* from, size_t bytes);  // `to` is written when a later mark is reached
  int (*clear_fault)(struct CbDevice*);

  // A place in the queue. reached: 1 when all before it has run, 0 when not yet (never with `wait`), -1 when the device has
  // failed. Marks are reached in order; each is given back by the call that does not return 0. `fault`: as it stood there.
  int (*mark)(struct CbDevice*, uint64_t* mark);
  int (*reached)(struct CbDevice*, uint64_t mark, int wait, CbFault* fault);

  // What is queued between begin and end is not run but kept. Uploads in between are kept with their bytes.
  int (*begin_capture)(struct CbDevice*);
  int (*end_capture)(struct CbDevice*, CbGraph** graph);
  int (*replay)(struct CbDevice*, CbGraph* graph);
  void (*release_graph)(struct CbDevice*, CbGraph* graph);

  void (*close)(struct CbDevice*);  // waits for the queue
} CbDevice;

// The library's entry point, cambium_cuda_open: CB_OK and a device, or a reason of at most `size` characters. `cublas`: a file
// to try first, or null.
typedef int (*CbOpenDevice)(CbDevice** device, const char* cublas, char* reason, size_t size);

#ifdef __cplusplus
}
#endif

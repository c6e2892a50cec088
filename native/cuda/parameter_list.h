// All parameters of an optimizer in one launch: the list travels as the kernel's argument, so that nothing is copied to
// device memory and a captured launch keeps it. Blocks of elements never span two parameters.
#pragma once
#include "cuda/elementwise.h"

namespace cambium {
namespace cuda {

constexpr int kMostParameters = 384;          // of one launch: arguments of a kernel may have 32,764 bytes
constexpr int64_t kParameterElements = 4096;  // of one block

struct ParameterList {
  int32_t count;
  int32_t first[kMostParameters + 1];  // blocks of all parameters before each
  CbParameter at[kMostParameters];
};

// The next parameters of [parameters] from `from` on, as many as one launch takes; advances `from`.
inline ParameterList next_parameters(int64_t parameters, const CbParameter* list, int64_t* from) {
  ParameterList out;
  out.count = int32_t(smaller(kMostParameters, parameters - *from));
  out.first[0] = 0;
  for (int32_t p = 0; p < out.count; ++p) {
    out.at[p] = list[*from + p];
    out.first[p + 1] = out.first[p] + int32_t(divide_up(out.at[p].count, kParameterElements));
  }
  *from += out.count;
  return out;
}

// launch(list, grid) with a block for each kParameterElements, as many parameters at a time as one launch takes.
template <class F>
int for_parameters(int64_t parameters, const CbParameter* all, const F& launch) {
  for (int64_t from = 0; from < parameters;) {
    const ParameterList list = next_parameters(parameters, all, &from);
    const int32_t blocks = list.first[list.count];
    if (blocks == 0) continue;
    if (const int status = launch(list, dim3(unsigned(blocks)))) return status;
  }
  return CB_OK;
}

// The parameter of a block: the last one that begins at or before it. Its elements are [*begin, *end).
__device__ inline const CbParameter& parameter_of(const ParameterList& list, int32_t block, int64_t* begin,
                                                  int64_t* end) {
  int32_t low = 0, high = list.count - 1;
  while (low < high) {
    const int32_t middle = (low + high + 1) / 2;
    if (list.first[middle] <= block)
      low = middle;
    else
      high = middle - 1;
  }
  *begin = (block - list.first[low]) * kParameterElements;
  *end = smaller(list.at[low].count, *begin + kParameterElements);
  return list.at[low];
}

// The gradient of n <= 8 elements from i on, with what the anchor adds.
__device__ inline void load_gradient(const CbParameter& p, int64_t i, int n, float (&g)[kLanes]) {
  Input{p.gradient, CB_F32}.load(i, n, g);
  if (p.anchor == nullptr) return;
  float value[kLanes], anchor[kLanes];
  Input{p.value, CB_F32}.load(i, n, value);
  Input{p.anchor, CB_F32}.load(i, n, anchor);
#pragma unroll
  for (int j = 0; j < kLanes; ++j) g[j] = fmaf(2.f * p.pull, value[j] - anchor[j], g[j]);
}

// min(1, max_norm / (√norm² + 1e-6)), or NaN where the norm is; 1 without a norm.
__device__ inline float clip_factor(const float* norm2, float max_norm) {
  if (norm2 == nullptr) return 1.f;
  const float ratio = max_norm / (sqrtf(*norm2) + 1e-6f);
  return ratio < 1 || ratio != ratio ? ratio : 1.f;
}

// average = μ · average + (1 − μ) · value
__device__ inline void keep_average(const CbParameter& p, float momentum, int64_t i, int n,
                                    const float (&value)[kLanes]) {
  if (p.average == nullptr) return;
  float average[kLanes];
  Input{p.average, CB_F32}.load(i, n, average);
#pragma unroll
  for (int j = 0; j < kLanes; ++j) average[j] = fmaf(momentum, average[j], (1.f - momentum) * value[j]);
  Output{p.average, CB_F32, 0}.store(i, n, average);
}

}  // namespace cuda
}  // namespace cambium

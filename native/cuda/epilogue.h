// What happens to a sum of products on its way to memory; the same for every kernel that makes sums.
//   t = gate · sum;  raw = t;  t = column_scale ∘ t + bias;  pre = t;  y (+)= act(t) + residual + skip
#pragma once
#include "cuda/activation.h"
#include "cuda/element.h"

namespace cambium {
namespace cuda {

struct Epilogue {
  const float *gate, *column_scale, *bias;  // device; null: none
  int32_t act;
  Output raw, pre;
  Input residual, skip;
  Output y;
  int64_t stride;  // elements from row to row of every matrix here

  // A closed gate: nothing of the product is wanted.
  __device__ bool closed() const { return gate != nullptr && *gate == 0; }

  // The n <= 8 sums from (row, column) on.
  __device__ void finish(int64_t row, int64_t column, int n, float (&t)[kLanes]) const {
    const int64_t at = row * stride + column;
    float other[kLanes];
    if (gate != nullptr) {
      const float g = *gate;
#pragma unroll
      for (int j = 0; j < kLanes; ++j) t[j] = g != 0 ? g * t[j] : 0.f;
    }
    if (raw.data != nullptr) raw.store(at, n, t);
    if (column_scale != nullptr) {
      Input{column_scale, CB_F32}.load(column, n, other);
#pragma unroll
      for (int j = 0; j < kLanes; ++j) t[j] *= other[j];
    }
    if (bias != nullptr) {
      Input{bias, CB_F32}.load(column, n, other);
#pragma unroll
      for (int j = 0; j < kLanes; ++j) t[j] += other[j];
    }
    if (pre.data != nullptr) pre.store(at, n, t);
    if (act != CB_ACT_NONE) {
#pragma unroll
      for (int j = 0; j < kLanes; ++j) t[j] = activate(act, t[j]);
    }
    if (residual.data != nullptr) {
      residual.load(at, n, other);
#pragma unroll
      for (int j = 0; j < kLanes; ++j) t[j] += other[j];
    }
    if (skip.data != nullptr) {
      skip.load(at, n, other);
#pragma unroll
      for (int j = 0; j < kLanes; ++j) t[j] += other[j];
    }
    y.store(at, n, t);
  }
};

}  // namespace cuda
}  // namespace cambium

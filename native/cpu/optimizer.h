// What squared_norm, adamw and sgd share: their elements in blocks that never span two parameters, the gradient of an
// element, and clipping.
#pragma once
#include "cpu/elementwise.h"
#include "cpu/kernels.h"

namespace cambium {
namespace CAMBIUM_LEVEL {

// first[p] is the number of blocks of all parameters before p; [parameters + 1] entries in scratch memory.
inline int64_t* first_blocks(CbContext* context, int64_t parameters, const CbParameter* list) {
  int64_t* first = static_cast<int64_t*>(context->scratch(context, size_t(parameters + 1) * sizeof(int64_t)));
  if (first == nullptr) return nullptr;
  first[0] = 0;
  for (int64_t p = 0; p < parameters; ++p) first[p + 1] = first[p] + divide_up(list[p].count, kTaskElements);
  return first;
}

// f(parameter, begin, end) for the elements of one block.
template <class F>
CAMBIUM_INLINE void in_block(const int64_t* first, int64_t parameters, const CbParameter* list, int64_t block,
                             const F& f) {
  int64_t low = 0, high = parameters - 1;  // the last p with first[p] <= block
  while (low < high) {
    const int64_t middle = (low + high + 1) / 2;
    if (first[middle] <= block)
      low = middle;
    else
      high = middle - 1;
  }
  const int64_t begin = (block - first[low]) * kTaskElements;
  f(list[low], begin, smaller(list[low].count, begin + kTaskElements));
}

// The gradient of W elements of a parameter, with the pull to its anchor.
struct GradientInput {
  Input gradient, value, anchor;
  vf pull;
  explicit GradientInput(const CbParameter& p)
      : gradient(p.gradient, CB_F32), value(p.value, CB_F32), anchor(p.anchor, CB_F32), pull(set(2 * p.pull)) {}
  CAMBIUM_INLINE vf at(int64_t i, int n) const {
    const vf g = gradient.at(i, n);
    return anchor.data == nullptr ? g : fma(pull, value.at(i, n) - anchor.at(i, n), g);
  }
};

// What gradients are multiplied by. norm2: null without a bound.
inline float clip_factor(const float* norm2, float max_norm) {
  if (norm2 == nullptr) return 1;
  const float ratio = max_norm / (__builtin_sqrtf(*norm2) + 1e-6f);
  return ratio < 1 || ratio != ratio ? ratio : 1;
}

}  // namespace CAMBIUM_LEVEL
}  // namespace cambium

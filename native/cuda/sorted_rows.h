// Sums of rows that share an index, without atomics: dx[index[i]] (+)= Σ source[i], in order of i.
#pragma once
#include "cuda/element.h"

namespace cambium {
namespace cuda {

// source [m, d], index [m] -> dx [rows, d]; rows that no index names are zeros, or stay with `accumulate`. Indices out
// of [0, rows) add nothing: whoever calls has told.
int add_rows_by_index(CbContext* context, const char* what, Input source, const int32_t* index, int64_t m, int64_t rows,
                      int64_t d, Output dx);

}  // namespace cuda
}  // namespace cambium

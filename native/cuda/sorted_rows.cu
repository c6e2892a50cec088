// Rows are sorted by (index, i): the place of a row is the number of rows that come before it, counted by comparing it
// with all of them. m is a few thousand (tokens of a batch), where m² comparisons cost less than the launches of a sort
// by digits. One warp then owns 256 columns of one index and adds its rows in order.
#include "cuda/checked.h"
#include "cuda/elementwise.h"
#include "cuda/kernels.h"
#include "cuda/sorted_rows.h"

namespace cambium {
namespace cuda {
namespace {

__global__ void rank_kernel(int64_t m, int64_t rows, const int32_t* index, IndexCheck check, int32_t* order) {
  __shared__ int32_t others[kThreads];
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  const int32_t own = i < m ? index[i] : 0;
  if (i < m) check.in_range(own, rows, i);
  int64_t before = 0;
  for (int64_t first = 0; first < m; first += kThreads) {
    __syncthreads();
    if (first + threadIdx.x < m) others[threadIdx.x] = index[first + threadIdx.x];
    __syncthreads();
    const int count = int(smaller(kThreads, m - first));
    for (int j = 0; j < count; ++j) before += others[j] < own || (others[j] == own && first + j < i) ? 1 : 0;
  }
  if (i < m) order[before] = int32_t(i);
}

struct AddRows {
  int64_t m, rows, d;
  const int32_t *index, *order;
  Input source;
  Output dx;
  __device__ void operator()(int64_t place, int64_t i, int n) const {
    const int32_t own = index[order[place]];
    if (own < 0 || own >= rows || (place > 0 && index[order[place - 1]] == own))
      return;  // the first row of an index adds all
    float total[kLanes] = {}, v[kLanes];
    for (int64_t p = place; p < m && index[order[p]] == own; ++p) {
      source.load(order[p] * d + i, n, v);
#pragma unroll
      for (int j = 0; j < kLanes; ++j) total[j] += v[j];
    }
    dx.store(own * d + i, n, total);
  }
};

}  // namespace

int add_rows_by_index(CbContext* context, const char* what, Input source, const int32_t* index, int64_t m, int64_t rows,
                      int64_t d, Output dx) {
  if (!dx.accumulate) {
    const fill_args zero{rows * d * int64_t(size_of(dx.type)), 0, dx.data};
    if (const int status = fill(context, &zero)) return status;
  }
  if (m == 0) return CB_OK;
  int32_t* const order = static_cast<int32_t*>(context->scratch(context, size_t(m) * sizeof(int32_t)));
  if (order == nullptr) return CB_OUT_OF_MEMORY;
  const int status = CB_LAUNCH(context, rank_kernel, dim3(unsigned(divide_up(m, kThreads))), dim3(kThreads), 0, m, rows,
                               index, index_check(context, what), order);
  if (status) return status;
  return for_rows(context, m, d, AddRows{m, rows, d, index, order, source, dx});
}

}  // namespace cuda
}  // namespace cambium

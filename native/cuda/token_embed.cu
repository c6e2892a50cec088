// token_embed: y[i] = table[ids[i]] + position[positions[i]]. Backward adds rows in order of i.
#include "cuda/checked.h"
#include "cuda/elementwise.h"
#include "cuda/f16.h"
#include "cuda/kernels.h"
#include "cuda/sorted_rows.h"

namespace cambium {
namespace cuda {
namespace {

struct Embed {
  const void* table;
  int32_t table_type;
  Input position;
  const int32_t *ids, *positions;
  int64_t vocabulary, length, d;
  IndexCheck words, places;
  Output y;
  __device__ void operator()(int64_t row, int64_t i, int n) const {
    const int32_t word = ids[row], place = positions[row];
    if (!words.in_range(word, vocabulary, row) || !places.in_range(place, length, row)) return;
    float v[kLanes], p[kLanes];
    load_any(table, table_type, word * d + i, n, v);
    position.load(place * d + i, n, p);
#pragma unroll
    for (int j = 0; j < kLanes; ++j) v[j] += p[j];
    y.store(row * d + i, n, v);
  }
};

}  // namespace

int token_embed_forward(CbContext* context, const token_embed_args* f) {
  return for_rows(context, f->m, f->d,
                  Embed{f->table,
                        f->table_type,
                        {f->position, CB_F32},
                        f->ids,
                        f->positions,
                        f->vocabulary,
                        f->length,
                        f->d,
                        index_check(context, "token_embed: ids"),
                        index_check(context, "token_embed: positions"),
                        {f->y, CB_F32, 0}});
}

int token_embed_backward(CbContext* context, const token_embed_grads* g) {
  const token_embed_args& f = *g->f;
  const Input dy{g->dy, CB_F32};
  if (g->dtable != nullptr) {
    const Output to{g->dtable, CB_F32, g->dtable_accumulate};
    if (const int status = add_rows_by_index(context, "token_embed: ids", dy, f.ids, f.m, f.vocabulary, f.d, to))
      return status;
  }
  if (g->dposition == nullptr) return CB_OK;
  const Output to{g->dposition, CB_F32, g->dposition_accumulate};
  return add_rows_by_index(context, "token_embed: positions", dy, f.positions, f.m, f.length, f.d, to);
}

}  // namespace cuda
}  // namespace cambium

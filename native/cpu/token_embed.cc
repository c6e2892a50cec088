// token_embed: y[i] = table[ids[i]] + position[positions[i]]. Backward scatters: each task owns a range of columns and
// adds the rows in order of i, so the result does not depend on the number of threads.
#include "cpu/elementwise.h"
#include "cpu/f16.h"
#include "cpu/index.h"
#include "cpu/kernels.h"

namespace cambium {
namespace CAMBIUM_LEVEL {
namespace {

bool check(CbContext* context, const token_embed_args& c) {
  return indices_in_range(context, "token_embed: ids", c.ids, c.m, c.vocabulary) &&
         indices_in_range(context, "token_embed: positions", c.positions, c.m, c.length);
}

void scatter(const token_embed_args& c, const float* dy, const int32_t* index, int64_t rows, float* dx,
             bool accumulate) {
  const Input from(dy, CB_F32);
  const Output zeroed(dx, CB_F32), to(dx, CB_F32, true);
  if (!accumulate) elementwise(rows * c.d, [=](int64_t i, int n) { zeroed.put(i, vf{}, n); });
  const int64_t m = c.m, d = c.d;
  parallel_for(divide_up(d, kScatterColumns), [=](int64_t task) {
    const int64_t begin = task * kScatterColumns, end = smaller(d, begin + kScatterColumns);
    for (int64_t row = 0; row < m; ++row) {
      const int64_t source = row * d, target = index[row] * d;
      for_lanes(begin, end, [=](int64_t i, int n) { to.put(target + i, from.at(source + i, n), n); });
    }
  });
}

}  // namespace

int token_embed_forward(CbContext* context, const token_embed_args* f) {
  const token_embed_args c = *f;
  if (!check(context, c)) return CB_INDEX;
  const Input position(c.position, CB_F32);
  const Output y(c.y, CB_F32);
  for_rows(c.m, c.d, [=](int64_t row) {
    const int64_t word = c.ids[row] * c.d, place = c.positions[row] * c.d, to = row * c.d;
    for_lanes(0, c.d, [=](int64_t i, int n) {
      y.put(to + i, load_cast(c.table_type, c.table, word + i, n) + position.at(place + i, n), n);
    });
  });
  return CB_OK;
}

int token_embed_backward(CbContext* context, const token_embed_grads* g) {
  const token_embed_args& c = *g->f;
  if (!check(context, c)) return CB_INDEX;
  if (g->dtable != nullptr) scatter(c, g->dy, c.ids, c.vocabulary, g->dtable, g->dtable_accumulate);
  if (g->dposition != nullptr) scatter(c, g->dy, c.positions, c.length, g->dposition, g->dposition_accumulate);
  return CB_OK;
}

}  // namespace CAMBIUM_LEVEL
}  // namespace cambium

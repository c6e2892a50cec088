#include "ops/ops.h"
#include "ops/target.h"

namespace cambium {

Tensor token_embed(Session& s, const Tensor& ids, const Tensor& positions, const Tensor& table, const Tensor& position) {
  expect_type("token_embed", "ids", ids, DType::i32);
  expect_type("token_embed", "positions", positions, DType::i32);
  if (!table || table->dtype != DType::f16) expect_float("token_embed", "table", table);
  expect_type("token_embed", "position", position, DType::f32);
  if (positions->count() != ids->count()) fail("E_SHAPE", "token_embed: expected a position for each of %lld ids, got %s", static_cast<long long>(ids->count()), positions->shape.text().c_str());
  if (table->shape.rank() != 2 || position->shape.rank() != 2 || position->width() != table->width())
    fail("E_SHAPE", "token_embed: expected table [V, D] and position [L, D], got %s and %s", table->shape.text().c_str(), position->shape.text().c_str());
  Tensor y = s.empty({ids->count(), table->width()}, DType::f32, "token_embed");
  token_embed_args a{};
  a.m = ids->count(), a.d = table->width(), a.vocabulary = table->shape[0], a.length = position->shape[0];
  a.ids = ids->data<int32_t>(), a.positions = positions->data<int32_t>();
  a.table = table->data(), a.table_type = code(table->dtype), a.position = position->data<float>(), a.y = y->data<float>();
  s.run("token_embed", s.backend().token_embed_forward, a);
  if (!s.tape().wants({table, position})) return y;
  s.tape().record("token_embed", {y}, [&s, a, vt = Var(table), vp = Var(position), vy = Var(y), si = Saved(ids), sp = Saved(positions)](Gradients& g) {
    const Tensor dy = g.take(vy);
    if (!dy) return;
    si.get("token_embed"), sp.get("token_embed");
    const Target dt(s, g.slot(vt), vt.shape, DType::f32);
    const Slot dp = g.slot(vp);
    token_embed_grads b{nullptr, dy->data<float>(), static_cast<float*>(dt.data()), dp.data<float>(), dt.accumulate(), dp.accumulate};
    s.run_backward("token_embed", s.backend().token_embed_backward, a, b);
    dt.merge(s);
  });
  return y;
}

}  // namespace cambium

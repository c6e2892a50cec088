// sgd: one pass over every parameter; see args.h for the formula.
#include "cpu/optimizer.h"

namespace cambium {
namespace CAMBIUM_LEVEL {
namespace {

struct Step {
  vf clip, momentum, average, rest_average;
  float lr;
};

void update(const CbParameter& p, int64_t begin, int64_t end, const Step& s) {
  const vf lr = set(s.lr * p.lr_scale), decay = set(p.decay);
  const GradientInput gradient(p);
  const Input m_in(p.m, CB_F32), value_in(p.value, CB_F32), average_in(p.average, CB_F32);
  const Output m_out(p.m, CB_F32), value_out(p.value, CB_F32), average_out(p.average, CB_F32);
  for_lanes(begin, end, [&](int64_t i, int n) {
    vf value = value_in.at(i, n);
    vf g = fma(decay, value, gradient.at(i, n) * s.clip);
    if (p.m != nullptr) {
      g = fma(s.momentum, m_in.at(i, n), g);
      m_out.put(i, g, n);
    }
    value = value - lr * g;
    value_out.put(i, value, n);
    if (p.average != nullptr) average_out.put(i, fma(s.average, average_in.at(i, n), s.rest_average * value), n);
  });
}

}  // namespace

int sgd(CbContext* context, const sgd_args* f) {
  const sgd_args c = *f;
  const int64_t* first = first_blocks(context, c.parameters, c.list);
  if (first == nullptr) return CB_OUT_OF_MEMORY;
  const Step s{set(clip_factor(c.norm2, c.max_norm)), set(c.momentum), set(c.schedule[1]), set(1.f - c.schedule[1]),
               c.schedule[0]};
  parallel_for(first[c.parameters], [=, &s](int64_t block) {
    in_block(first, c.parameters, c.list, block,
             [&s](const CbParameter& p, int64_t begin, int64_t end) { update(p, begin, end, s); });
  });
  return CB_OK;
}

}  // namespace CAMBIUM_LEVEL
}  // namespace cambium

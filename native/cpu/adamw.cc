// squared_norm and adamw: one pass over every parameter, cut into blocks of elements that never span two parameters.
// Gradients of the f32 masters are read once: clip, decay, moments, step, average and zeroing happen together.
#include "cpu/optimizer.h"

namespace cambium {
namespace CAMBIUM_LEVEL {
namespace {

struct Step {
  vf clip, beta1, beta2, rest1, rest2, inverse_c2, eps, momentum, rest_momentum;
  float lr, c1;
};

void update(const CbParameter& p, int64_t begin, int64_t end, const Step& s) {
  const float lr = s.lr * p.lr_scale;
  const vf keep = set(1.f - lr * p.decay), rate = set(lr / s.c1);
  const GradientInput gradient(p);
  const Input m_in(p.m, CB_F32), v_in(p.v, CB_F32), value_in(p.value, CB_F32);
  const Output m_out(p.m, CB_F32), v_out(p.v, CB_F32), value_out(p.value, CB_F32);
  const Input average_in(p.average, CB_F32);
  const Output average_out(p.average, CB_F32);
  for_lanes(begin, end, [&](int64_t i, int n) {
    const vf g = gradient.at(i, n) * s.clip;
    const vf m = fma(s.beta1, m_in.at(i, n), s.rest1 * g);
    const vf v = fma(s.beta2, v_in.at(i, n), s.rest2 * g * g);
    const vf value = value_in.at(i, n) * keep - rate * m / (sqrt(v * s.inverse_c2) + s.eps);
    m_out.put(i, m, n);
    v_out.put(i, v, n);
    value_out.put(i, value, n);
    if (p.average != nullptr) {
      average_out.put(i, fma(s.momentum, average_in.at(i, n), s.rest_momentum * value), n);
    }
  });
}

}  // namespace

int squared_norm(CbContext* context, const squared_norm_args* f) {
  const squared_norm_args c = *f;
  *c.y = 0;
  const int64_t* first = first_blocks(context, c.parameters, c.list);
  if (first == nullptr) return CB_OUT_OF_MEMORY;
  const int64_t blocks = first[c.parameters];
  double* partial = static_cast<double*>(context->scratch(context, size_t(blocks + 1) * sizeof(double)));
  if (partial == nullptr) return CB_OUT_OF_MEMORY;
  parallel_for(blocks, [=](int64_t block) {
    in_block(first, c.parameters, c.list, block, [=](const CbParameter& p, int64_t begin, int64_t end) {
      vd total{};
      const GradientInput gradient(p);
      for_lanes(begin, end, [&](int64_t i, int n) {
        const vf g = gradient.at(i, n);
        add_double(total, g, g);
      });
      partial[block] = sum_double(total);
    });
  });
  double total = 0;
  for (int64_t block = 0; block < blocks; ++block) total += partial[block];
  *c.y = float(total);
  return CB_OK;
}

int adamw(CbContext* context, const adamw_args* f) {
  const adamw_args c = *f;
  const int64_t* first = first_blocks(context, c.parameters, c.list);
  if (first == nullptr) return CB_OUT_OF_MEMORY;
  Step s;
  s.clip = set(clip_factor(c.norm2, c.max_norm));
  s.beta1 = set(float(c.beta1));
  s.beta2 = set(float(c.beta2));
  s.rest1 = set(float(1.0 - c.beta1));
  s.rest2 = set(float(1.0 - c.beta2));
  s.lr = c.schedule[0];
  s.c1 = c.schedule[1];
  s.inverse_c2 = set(1.f / c.schedule[2]);
  s.momentum = set(c.schedule[3]);
  s.rest_momentum = set(1.f - c.schedule[3]);
  s.eps = set(c.eps);
  parallel_for(first[c.parameters], [=, &s](int64_t block) {
    in_block(first, c.parameters, c.list, block,
             [&s](const CbParameter& p, int64_t begin, int64_t end) { update(p, begin, end, s); });
  });
  return CB_OK;
}

}  // namespace CAMBIUM_LEVEL
}  // namespace cambium

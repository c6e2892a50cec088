// dropout: y = x ∘ keep / (1 − p). The mask is never stored: backward draws it again. Element e of a sample is word
// e / 16 % 4 of the Philox block with counter e / 64 · 16 + e % 16, so that 16 counters run side by side at every level.
#include "cpu/elementwise.h"
#include "cpu/index.h"
#include "cpu/kernels.h"

namespace cambium {
namespace CAMBIUM_LEVEL {
namespace {

constexpr int kLanes = 16, kBlock = 4 * kLanes;

struct Stream {
  uint32_t seed0, seed1, step, site;
};

// kBlock words: Philox4x32-10 (core/random.h) at counters [counter, counter + 16) of a sample.
void draw(const Stream& s, uint32_t counter, uint32_t key, uint32_t* out) {
  uint32_t c0[kLanes], c1[kLanes], c2[kLanes], c3[kLanes], key0 = s.seed0, key1 = s.seed1;
  for (int l = 0; l < kLanes; ++l) c0[l] = counter + uint32_t(l), c1[l] = key, c2[l] = s.step, c3[l] = s.site;
  for (int round = 0; round < 10; ++round) {
    for (int l = 0; l < kLanes; ++l) {
      const uint64_t p0 = uint64_t{0xD2511F53} * c0[l], p1 = uint64_t{0xCD9E8D57} * c2[l];
      const uint32_t n0 = uint32_t(p1 >> 32) ^ c1[l] ^ key0, n2 = uint32_t(p0 >> 32) ^ c3[l] ^ key1;
      c1[l] = uint32_t(p1), c3[l] = uint32_t(p0), c0[l] = n0, c2[l] = n2;
    }
    key0 += 0x9E3779B9, key1 += 0xBB67AE85;
  }
  for (int l = 0; l < kLanes; ++l) {
    out[l] = c0[l], out[kLanes + l] = c1[l];
    out[2 * kLanes + l] = c2[l], out[3 * kLanes + l] = c3[l];
  }
}

int run(CbContext* context, const dropout_args& f, const void* from, void* to, int32_t accumulate) {
  if (!indices_in_range(context, "dropout: offsets", f.offsets, f.samples + 1, f.m + 1)) return CB_INDEX;
  for (int64_t i = 0; i <= f.samples; ++i) {
    const int64_t least = i == 0 ? 0 : f.offsets[i - 1];
    if (f.offsets[i] >= least && (i > 0 || f.offsets[0] == 0) && (i < f.samples || f.offsets[i] == f.m)) continue;
    if (context->message != nullptr)
      snprintf(context->message, 255, "dropout: expected offsets that rise from 0 to %lld, got %d at %lld", (long long)f.m,
               f.offsets[i], (long long)i);
    return CB_INDEX;
  }
  const Input x(from, f.type);
  const Output y(to, f.type, accumulate);
  const Stream stream{uint32_t(f.step[1]), uint32_t(f.step[2]), uint32_t(f.step[0]), uint32_t(f.site)};
  const float scale = 1 / (1 - f.p);
  parallel_for(f.samples, [=](int64_t sample) {
    const int64_t begin = f.offsets[sample] * f.d, count = f.offsets[sample + 1] * f.d - begin;
    for (int64_t at = 0; at < count; at += kBlock) {
      uint32_t words[kBlock];
      float keep[kBlock];
      draw(stream, uint32_t(at / kBlock * kLanes), uint32_t(f.keys[sample]), words);
      for (int i = 0; i < kBlock; ++i) keep[i] = float(int32_t(words[i] >> 8)) * 0x1p-24f < f.p ? 0.f : scale;
      for_lanes(0, smaller(kBlock, count - at),
                [&](int64_t i, int n) { y.put(begin + at + i, x.at(begin + at + i, n) * Input(keep, CB_F32).at(i, n), n); });
    }
  });
  return CB_OK;
}

}  // namespace

int dropout_forward(CbContext* context, const dropout_args* f) { return run(context, *f, f->x, f->y, 0); }

int dropout_backward(CbContext* context, const dropout_grads* g) {
  return g->dx != nullptr ? run(context, *g->f, g->dy, g->dx, g->dx_accumulate) : CB_OK;
}

}  // namespace CAMBIUM_LEVEL
}  // namespace cambium

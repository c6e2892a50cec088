// dropout: y = x ∘ keep / (1 − p). The mask is never stored: backward draws it again. Element e of a sample is word
// e / 16 % 4 of the Philox block with counter e / 64 · 16 + e % 16, as on every device: the same draws, bit for bit.
#include "cuda/checked.h"
#include "cuda/elementwise.h"
#include "cuda/kernels.h"

namespace cambium {
namespace cuda {
namespace {

constexpr int kGroup = 16, kWords = 4;     // counters side by side, words of one
constexpr int64_t kBlockElements = 16384;  // of an average sample, one block

struct Draws {
  const int32_t *offsets, *keys, *step;
  int64_t m, d, samples;
  int32_t site;
  float p;
};

// Philox4x32-10 (core/random.h)
__device__ void draw(const Draws& s, uint32_t counter, uint32_t key, uint32_t (&c)[kWords]) {
  uint32_t key0 = uint32_t(s.step[1]), key1 = uint32_t(s.step[2]);
  c[0] = counter, c[1] = key, c[2] = uint32_t(s.step[0]), c[3] = uint32_t(s.site);
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53} * c[0], p1 = uint64_t{0xCD9E8D57} * c[2];
    const uint32_t n0 = uint32_t(p1 >> 32) ^ c[1] ^ key0, n2 = uint32_t(p0 >> 32) ^ c[3] ^ key1;
    c[1] = uint32_t(p1), c[3] = uint32_t(p0), c[0] = n0, c[2] = n2;
    key0 += 0x9E3779B9, key1 += 0xBB67AE85;
  }
}

// Grid: x pieces of a sample, y samples.
__global__ void dropout_kernel(Draws s, IndexCheck check, Input x, Output y) {
  for (int64_t sample = blockIdx.y; sample < s.samples; sample += gridDim.y) {
    int64_t first, rows;
    if (!check.sample(s.offsets, sample, s.samples, s.m, s.m, &first, &rows)) return;
    const int64_t begin = first * s.d, count = rows * s.d, counters = divide_up(count, kGroup * kWords) * kGroup;
    const float scale = 1 / (1 - s.p);
    for (int64_t c = int64_t(blockIdx.x) * kThreads + threadIdx.x; c < counters; c += int64_t(gridDim.x) * kThreads) {
      uint32_t words[kWords];
      draw(s, uint32_t(c), uint32_t(s.keys[sample]), words);
#pragma unroll
      for (int w = 0; w < kWords; ++w) {
        const int64_t e = c / kGroup * kGroup * kWords + w * kGroup + c % kGroup;
        if (e >= count) continue;
        const float keep = float(int32_t(words[w] >> 8)) * 0x1p-24f < s.p ? 0.f : scale;
        y.put(begin + e, x.at(begin + e) * keep);
      }
    }
  }
}

int run(CbContext* context, const dropout_args& f, const void* from, Output to) {
  if (f.samples == 0 || f.m * f.d == 0) return CB_OK;
  const int64_t pieces = smaller(1024, larger(1, divide_up(f.m * f.d, f.samples * kBlockElements)));
  const Draws draws{f.offsets, f.keys, f.step, f.m, f.d, f.samples, f.site, f.p};
  return CB_LAUNCH(context, dropout_kernel, dim3(unsigned(pieces), unsigned(smaller(f.samples, 65535))), dim3(kThreads),
                   0, draws, index_check(context, "dropout: offsets"), Input{from, f.type}, to);
}

}  // namespace

int dropout_forward(CbContext* context, const dropout_args* f) { return run(context, *f, f->x, {f->y, f->type, 0}); }

int dropout_backward(CbContext* context, const dropout_grads* g) {
  return g->dx != nullptr ? run(context, *g->f, g->dy, {g->dx, g->f->type, g->dx_accumulate}) : CB_OK;
}

}  // namespace cuda
}  // namespace cambium

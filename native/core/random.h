// Philox4x32-10 (Salmon et al., SC 2011): counter-based random numbers. A draw is a pure function of its key and
// counter, so it does not depend on threads, micro-batches or what was drawn before.
#pragma once
#include <cstdint>

namespace cambium {

struct Philox {
  uint32_t out[4];
  Philox(uint64_t seed, uint32_t step, uint32_t site, uint64_t index) {
    uint32_t key0 = static_cast<uint32_t>(seed), key1 = static_cast<uint32_t>(seed >> 32);
    uint32_t c0 = static_cast<uint32_t>(index), c1 = static_cast<uint32_t>(index >> 32), c2 = step, c3 = site;
    for (int round = 0; round < 10; ++round) {
      const uint64_t p0 = uint64_t{0xD2511F53} * c0, p1 = uint64_t{0xCD9E8D57} * c2;
      const uint32_t n0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ key0, n2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ key1;
      c1 = static_cast<uint32_t>(p1), c3 = static_cast<uint32_t>(p0), c0 = n0, c2 = n2;
      key0 += 0x9E3779B9, key1 += 0xBB67AE85;
    }
    out[0] = c0, out[1] = c1, out[2] = c2, out[3] = c3;
  }
};

// Uniform in [0, 1) with 24 bits, the i-th of a sequence keyed by (seed, step, site).
inline float philox_uniform(uint64_t seed, uint32_t step, uint32_t site, uint64_t i) {
  return static_cast<float>(Philox(seed, step, site, i / 4).out[i % 4] >> 8) * 0x1p-24f;
}

}  // namespace cambium

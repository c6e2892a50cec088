// Several tensors of one shape into one, element by element, in doubles:
//
//   d_k = x_k - base (without a base x_k), thinned to a share of its elements: the largest, or random ones divided by the share
//   y   = sum of w_k d_k, or by elected sign: over those d_k that have the sign of sum d_k (or of the sum of their signs),
//         divided by how many they are (TIES, Yadav et al., 2023)
//   out = base + lambda y
//
// The largest are found exactly and in constant memory, by two histograms over the bits of |d| in f32; of equal ones the first
// are kept. Random ones are a pure function of (seed, site, input, index) (DARE, Yu et al., 2024).
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace cambium {

struct CombineOptions {
  enum Prune { kKeep, kMagnitude, kRandom } prune = kKeep;
  enum Sign { kSum, kTotal, kFrequency } sign = kSum;
  bool has_base = false;                // the first input is the base
  std::vector<double> weights, density;  // of the inputs without the base
  double lambda = 1;
  bool spherical = false;  // two inputs: weights follow from their angle and `t` (SLERP, Shoemake, 1985)
  double t = 0;
  uint64_t seed = 0;
  uint32_t site = 0;
};

// What is kept of one input: |d| above the threshold, and of those equal to it the first `ties`.
struct Threshold {
  uint32_t bits = 0;
  int64_t ties = 0;
};

// f32 bits of |x|: ordered as the numbers are.
uint32_t magnitude_bits(double x);

// Finds thresholds by two histograms: of the upper bits, then of the lower ones within the bin that the k-th falls into.
class Selection {
 public:
  static constexpr int kUpper = 1 << 15, kLower = 1 << 16;
  explicit Selection(int64_t keep) : keep_(keep), upper_(kUpper), lower_(kLower) {}
  void count_upper(const double* d, int64_t n, std::vector<int64_t>* bins) const;
  void count_lower(const double* d, int64_t n, std::vector<int64_t>* bins) const;
  void add_upper(const std::vector<int64_t>& bins);
  void choose_bin();
  void add_lower(const std::vector<int64_t>& bins);
  Threshold threshold() const;

 private:
  int64_t keep_, above_ = 0;
  uint32_t bin_ = 0;
  std::vector<int64_t> upper_, lower_;
};

// d [n] of input k, elements [first, first + n): those that are not kept become zero. `ties`: how many equal ones lie before
// `first`; it is moved on.
void keep_largest(double* d, int64_t n, const Threshold& threshold, int64_t* ties);
void keep_random(double* d, int64_t n, int64_t first, double density, const CombineOptions& options, uint32_t input);

// out [n] (may be base) = base + lambda y; d [inputs][n], base null without one.
void combine(const double* const* d, size_t inputs, const double* base, int64_t n, const CombineOptions& options, double* out);

// Weights of SLERP from <a, b>, |a|², |b|²; those of a straight line when the two are nearly parallel.
void spherical_weights(double ab, double aa, double bb, double t, std::vector<double>* weights);

}  // namespace cambium

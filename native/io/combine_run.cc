#include "io/combine_run.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "cpu/parallel.h"
#include "linalg/round.h"
#include "linalg/vectors.h"

namespace cambium {

CombineRun::CombineRun(std::vector<CombineInput> inputs, int64_t count, CombineOptions options) : inputs_(std::move(inputs)), count_(count), options_(std::move(options)) {}

IoStatus CombineRun::read(size_t input, int64_t piece, Doubles* out) const {
  const CombineInput& in = inputs_[input];
  const int64_t n = piece_count(piece);
  out->resize(static_cast<size_t>(n));
  if (in.values) {
    to_doubles(in.values + piece * kPiece, ElementType::kF32, out->data(), n);
    return {};
  }
  const size_t size = element_size(in.type);
  std::vector<char> raw(static_cast<size_t>(n) * size);
  const IoStatus status = in.file->read(in.from + static_cast<uint64_t>(piece * kPiece) * size, raw.size(), raw.data());
  if (status.ok()) to_doubles(raw.data(), in.type, out->data(), n);
  return status;
}

// x_k - base, k counted without the base.
IoStatus CombineRun::read_difference(size_t input, int64_t piece, Doubles* out) const {
  IoStatus status = read(input + (options_.has_base ? 1 : 0), piece, out);
  if (!options_.has_base || !status.ok()) return status;
  Doubles base;
  status = read(0, piece, &base);
  if (status.ok()) add_scaled(out->data(), base.data(), static_cast<int64_t>(base.size()), -1);
  return status;
}

// Runs count(differences, bins) on every piece and add(bins, piece) in their order.
template <class Count, class Add>
IoStatus CombineRun::count_pieces(size_t input, size_t bins, const Count& count, const Add& add) const {
  constexpr int64_t kWave = 16;
  std::vector<std::vector<int64_t>> counts(kWave);
  std::vector<IoStatus> states(kWave);
  for (int64_t first = 0; first < pieces(); first += kWave) {
    const int64_t wave = std::min(kWave, pieces() - first);
    parallel_for(wave, [&](int64_t task) {
      const size_t at = static_cast<size_t>(task);
      counts[at].assign(bins, 0);
      Doubles d;
      states[at] = read_difference(input, first + task, &d);
      if (states[at].ok()) count(d, &counts[at]);
    });
    for (int64_t task = 0; task < wave; ++task) {
      if (!states[static_cast<size_t>(task)].ok()) return states[static_cast<size_t>(task)];
      add(counts[static_cast<size_t>(task)], first + task);
    }
  }
  return {};
}

IoStatus CombineRun::select(size_t input) {
  Selection selection(static_cast<int64_t>(options_.density[input] * static_cast<double>(count_)));
  IoStatus status = count_pieces(
      input, Selection::kUpper, [&](const Doubles& d, std::vector<int64_t>* bins) { selection.count_upper(d.data(), static_cast<int64_t>(d.size()), bins); },
      [&](const std::vector<int64_t>& bins, int64_t) { selection.add_upper(bins); });
  if (!status.ok()) return status;
  selection.choose_bin();
  status = count_pieces(
      input, Selection::kLower, [&](const Doubles& d, std::vector<int64_t>* bins) { selection.count_lower(d.data(), static_cast<int64_t>(d.size()), bins); },
      [&](const std::vector<int64_t>& bins, int64_t) { selection.add_lower(bins); });
  if (!status.ok()) return status;
  const Threshold threshold = selection.threshold();
  thresholds_.push_back(threshold);
  std::vector<int64_t> before(static_cast<size_t>(pieces()) + 1);
  status = count_pieces(
      input, 1, [&](const Doubles& d, std::vector<int64_t>* bins) { for (const double x : d) (*bins)[0] += magnitude_bits(x) == threshold.bits; },
      [&](const std::vector<int64_t>& bins, int64_t piece) { before[static_cast<size_t>(piece) + 1] = before[static_cast<size_t>(piece)] + bins[0]; });
  ties_.push_back(std::move(before));
  return status;
}

IoStatus CombineRun::measure_angle() {
  double ab = 0, aa = 0, bb = 0;
  for (int64_t piece = 0; piece < pieces(); ++piece) {
    Doubles a, b;
    IoStatus status = read(0, piece, &a);
    if (status.ok()) status = read(1, piece, &b);
    if (!status.ok()) return status;
    const int64_t n = static_cast<int64_t>(a.size());
    ab += dot(a.data(), b.data(), n), aa += dot(a.data(), a.data(), n), bb += dot(b.data(), b.data(), n);
  }
  spherical_weights(ab, aa, bb, options_.t, &options_.weights);
  return {};
}

IoStatus CombineRun::prepare() {
  if (options_.spherical) return measure_angle();
  for (size_t k = 0; options_.prune == CombineOptions::kMagnitude && k < options_.weights.size(); ++k) {
    const IoStatus status = select(k);
    if (!status.ok()) return status;
  }
  return {};
}

IoStatus CombineRun::run(int64_t piece, Doubles* out) const {
  const size_t inputs = options_.weights.size();
  const int64_t n = piece_count(piece);
  std::vector<Doubles> differences(inputs);
  std::vector<const double*> d;
  for (size_t k = 0; k < inputs; ++k) {
    const IoStatus status = read_difference(k, piece, &differences[k]);
    if (!status.ok()) return status;
    if (options_.prune == CombineOptions::kMagnitude) {
      int64_t ties = ties_[k][static_cast<size_t>(piece)];
      keep_largest(differences[k].data(), n, thresholds_[k], &ties);
    } else if (options_.prune == CombineOptions::kRandom && options_.density[k] < 1) {
      keep_random(differences[k].data(), n, piece * kPiece, options_.density[k], options_, static_cast<uint32_t>(k));
    }
    d.push_back(differences[k].data());
  }
  Doubles base;
  if (options_.has_base) {
    const IoStatus status = read(0, piece, &base);
    if (!status.ok()) return status;
  }
  out->resize(static_cast<size_t>(n));
  combine(d.data(), inputs, options_.has_base ? base.data() : nullptr, n, options_, out->data());
  return {};
}

}  // namespace cambium

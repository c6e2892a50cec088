// Combining tensors that lie in files or in memory (linalg/combine.h), piece by piece on the pool.
#pragma once
#include <memory>
#include <vector>

#include "io/element_type.h"
#include "io/file.h"
#include "linalg/combine.h"

namespace cambium {

struct CombineInput {
  const ReadFile* file = nullptr;  // else `values`
  uint64_t from = 0;
  ElementType type = ElementType::kF32;
  const float* values = nullptr;
};

class CombineRun {
 public:
  static constexpr int64_t kPiece = 1 << 17;  // elements

  CombineRun(std::vector<CombineInput> inputs, int64_t count, CombineOptions options);
  // Passes over the inputs for what the formula needs to know of whole tensors: thresholds, an angle.
  IoStatus prepare();
  int64_t pieces() const { return (count_ + kPiece - 1) / kPiece; }
  int64_t piece_count(int64_t i) const { return count_ - i * kPiece < kPiece ? count_ - i * kPiece : kPiece; }
  // out [piece_count(i)]
  IoStatus run(int64_t i, std::vector<double>* out) const;
  const std::vector<CombineInput>& inputs() const { return inputs_; }

 private:
  using Doubles = std::vector<double>;
  IoStatus read(size_t input, int64_t piece, Doubles* out) const;
  IoStatus read_difference(size_t input, int64_t piece, Doubles* out) const;
  IoStatus select(size_t input);
  IoStatus measure_angle();
  template <class Count, class Add>
  IoStatus count_pieces(size_t input, size_t bins, const Count& count, const Add& add) const;

  std::vector<CombineInput> inputs_;
  int64_t count_;
  CombineOptions options_;
  std::vector<Threshold> thresholds_;
  std::vector<std::vector<int64_t>> ties_;  // of each input: how many equal ones lie before each piece
};

}  // namespace cambium

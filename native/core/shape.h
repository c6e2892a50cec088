// Sizes of a contiguous row-major tensor, at most four.
#pragma once
#include <cstdint>
#include <initializer_list>
#include <string>

#include "core/error.h"

namespace cambium {

class Shape {
 public:
  static constexpr int kMaxRank = 4;
  Shape() = default;
  Shape(std::initializer_list<int64_t> sizes) {
    for (int64_t size : sizes) push(size);
  }
  void push(int64_t size) {
    if (rank_ == kMaxRank) fail("E_SHAPE", "shape: expected at most %d dimensions, got more", kMaxRank);
    if (size < 0 || size > (int64_t{1} << 40)) fail("E_SHAPE", "shape: expected sizes from 0 to 2^40, got %lld", static_cast<long long>(size));
    sizes_[rank_++] = size;
    if (product() > 0x1p42) fail("E_SHAPE", "shape: expected at most 2^42 elements, got more");
  }
  int rank() const { return rank_; }
  int64_t operator[](int i) const { return sizes_[i]; }
  int64_t last() const { return rank_ == 0 ? 1 : sizes_[rank_ - 1]; }
  int64_t count() const { return static_cast<int64_t>(product()); }
  int64_t rows() const { return last() == 0 ? 0 : count() / last(); }
  Shape with_last(int64_t size) const {
    Shape out;
    for (int i = 0; i + 1 < rank_; ++i) out.push(sizes_[i]);
    out.push(size);
    return out;
  }
  bool operator==(const Shape& other) const {
    if (rank_ != other.rank_) return false;
    for (int i = 0; i < rank_; ++i)
      if (sizes_[i] != other.sizes_[i]) return false;
    return true;
  }
  bool operator!=(const Shape& other) const { return !(*this == other); }
  std::string text() const {
    std::string out = "[";
    for (int i = 0; i < rank_; ++i) out += (i ? ", " : "") + std::to_string(sizes_[i]);
    return out + "]";
  }

 private:
  double product() const {  // exact up to the largest count allowed, and cannot wrap around above it
    double product = 1;
    for (int i = 0; i < rank_; ++i) product *= static_cast<double>(sizes_[i]);
    return product;
  }
  int rank_ = 0;
  int64_t sizes_[kMaxRank] = {};
};

}  // namespace cambium

// Writing one file of a merged checkpoint: ranges copied as they are, and matrices folded (linalg/fold.h) on the way from
// the source to the target. Works in pieces of a megabyte, so memory does not grow with the file; pieces are read,
// computed and written by all threads of the pool at once, which overlaps reading, arithmetic and writing.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "io/combine_run.h"
#include "io/element_type.h"
#include "io/file.h"
#include "io/read_tensor.h"
#include "linalg/fold.h"

namespace cambium {

// A factor: read from a file when its turn comes, or given.
struct FactorSource {
  bool present = false;
  TensorRead read;  // `to` is F64
  std::shared_ptr<std::vector<double>> values;
};

struct FoldStepSource {
  FactorSource p, q, magnitude;
  int64_t first = 0, count = 0, rank = 0;
  double scale = 1, weight = 1;
  FoldStep::Norm norm = FoldStep::kNone;
};

// One input of a combination: where it lies in which source.
struct MergeInput {
  size_t source = 0;
  uint64_t from = 0;
  ElementType type = ElementType::kF32;
};

// A range of the source, copied; with rows, a matrix of it, folded; with inputs, `rows` elements of each, combined. Offsets and
// bytes are absolute.
struct MergeSegment {
  std::string name;
  size_t source = 0;
  uint64_t from = 0, to = 0;
  uint64_t bytes = 0;  // of the source
  int64_t rows = 0, columns = 0;
  ElementType from_type = ElementType::kF32, to_type = ElementType::kF32;
  std::vector<FoldStepSource> steps;
  std::vector<MergeInput> inputs;
  CombineOptions combine;
};

struct MergeFile {
  struct Source {
    std::string path;
    uint64_t size;  // when its header was validated
  };
  std::vector<Source> sources;
  std::string target;  // must not exist yet
  std::vector<char> header;
  uint64_t size = 0;
  std::vector<MergeSegment> segments;
  bool finite = false;  // a result that is NaN or infinite is an error
};

// Words shared with the caller while the work goes on.
struct MergeControl {
  int64_t* done = nullptr;   // bytes of the target written so far
  int64_t* abort = nullptr;  // not 0: stop with E_ABORTED
};

// Writes and syncs the target. `non_finite`: for each segment, how many results are NaN or infinite. After an error the
// target may be there in part. Errors: those of ReadFile, E_NO_SPACE, E_DTYPE, E_NOT_FINITE, E_ABORTED.
IoStatus merge_file(const MergeFile& plan, const MergeControl& control, std::vector<int64_t>* non_finite);

// Rounding drift of a folded segment as it was written, against the same formula in doubles by a plain loop.
struct FoldDrift {
  int64_t rows = 0, elements = 0, changed = 0;  // looked at; elements that differ from the source's
  double max_ulp = 0, sum_ulp = 0;              // |written - exact| in units in the last place of the target's type
  double error = 0, exact = 0, delta = 0;       // sums of squares: written - exact, exact, exact - source
};
// Looks at every `stride`-th row. Errors: those of ReadFile.
IoStatus measure_drift(const MergeFile& plan, const MergeSegment& segment, int64_t stride, FoldDrift* drift);

}  // namespace cambium

#include "io/merge_file.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <mutex>

#include "cpu/parallel.h"
#include "io/piece_writer.h"
#include "linalg/fold_bf16.h"
#include "linalg/round.h"

namespace cambium {
namespace {

constexpr int64_t kPieceBytes = 1 << 20;
constexpr int64_t kFlat = 4096;  // elements that pass through the cache together where rows do not matter
constexpr int64_t kWave = 64;    // pieces for which this work has the pool to itself
constexpr int64_t kAhead = 8;    // pieces that are read ahead
constexpr int64_t kWidth = 512;   // columns of a block that stays in the first cache
enum Scratch { kRaw, kValues, kMixed };

IoStatus no_memory(const std::string& name) { return IoStatus::error("E_OUT_OF_MEMORY", name + ": expected free host memory, got none"); }

IoStatus read_factor(const FactorSource& source, std::vector<double>* out) {
  if (source.values) {
    *out = *source.values;
    return {};
  }
  out->resize(static_cast<size_t>(source.read.count));
  return read_tensor(source.read, out->data());
}

// One folded matrix: its factors in memory, its rows in pieces.
class Fold {
 public:
  Fold(const MergeSegment& segment, const ReadFile& source) : segment_(segment), source_(source), from_size_(static_cast<int64_t>(element_size(segment.from_type))), to_size_(static_cast<int64_t>(element_size(segment.to_type))) {
    flat_ = segment.steps.empty();
    columns_ = flat_ ? kFlat : segment.columns;
    count_ = segment.rows * segment.columns;
    const int64_t block = kFoldRows * columns_;
    piece_ = std::max<int64_t>(1, kPieceBytes / std::max(from_size_, to_size_) / block) * block;
  }

  IoStatus prepare() {
    for (const FoldStepSource& from : segment_.steps) {
      FoldStep step;
      step.first = from.first, step.count = from.count, step.rank = from.rank, step.low_rank = from.q.present, step.norm = from.norm, step.weight = from.weight;
      IoStatus status = read_factor(from.p, &step.p);
      if (status.ok() && from.q.present) status = read_factor(from.q, &step.q);
      if (status.ok() && from.magnitude.present) status = read_factor(from.magnitude, &step.magnitude);
      if (!status.ok()) return status;
      if (from.scale != 1) {
        for (double& x : step.p) x *= from.scale;
      }
      steps_.push_back(std::move(step));
      if (from.norm == FoldStep::kColumns) status = measure_columns();
      if (!status.ok()) return status;
    }
    fast_ = segment_.from_type == segment_.to_type && segment_.from_type == ElementType::kBF16 && bf16_.prepare(steps_, segment_.rows, columns_);
    return {};
  }

  int64_t pieces() const { return (count_ + piece_ - 1) / piece_; }
  int64_t piece_count(int64_t i) const { return std::min(piece_, count_ - i * piece_); }
  uint64_t from(int64_t i) const { return segment_.from + static_cast<uint64_t>(std::min(i * piece_, count_) * from_size_); }
  uint64_t to(int64_t i) const { return segment_.to + static_cast<uint64_t>(std::min(i * piece_, count_) * to_size_); }
  const std::vector<FoldStep>& steps() const { return steps_; }

  IoStatus run(int64_t i, PieceWriter& writer, std::atomic<int64_t>* wrong) const {
    const int64_t count = piece_count(i);
    const uint64_t bytes = static_cast<uint64_t>(count * to_size_);
    char* converted = writer.take(to(i), bytes);
    if (!converted) return no_memory(segment_.name);
    // In place where element sizes agree: what is read goes where it is written from.
    char* raw = segment_.from_type == segment_.to_type ? converted : static_cast<char*>(thread_scratch(kRaw, static_cast<size_t>(count * from_size_)));
    int64_t bad = 0;
    IoStatus status = raw ? IoStatus{} : no_memory(segment_.name);
    if (status.ok()) status = fast_ ? run_bf16(i, raw, &bad) : each_block(i, steps_.size(), false, raw, [&](int64_t at, int64_t elements, double* v) { bad += from_doubles(v, segment_.to_type, converted + at * to_size_, elements); });
    if (!status.ok()) {
      writer.drop(converted);
      return status;
    }
    if (bad) wrong->fetch_add(bad);
    writer.put(converted, to(i), bytes);
    return writer.status();
  }

 private:
  // Reads piece i and folds it in place. What f32 leaves in doubt, and edges, are folded in doubles: the same bits either way.
  IoStatus run_bf16(int64_t i, char* raw, int64_t* bad) const {
    const int64_t row = i * piece_ / columns_, rows = piece_count(i) / columns_;
    IoStatus status = source_.read(from(i), static_cast<uint64_t>(piece_count(i) * from_size_), raw);
    double* v = static_cast<double*>(thread_scratch(kValues, static_cast<size_t>(kFoldRows * Bf16Fold::kColumns) * 8));
    if (!v) return no_memory(segment_.name);
    if (!status.ok()) return status;
    uint16_t* w = reinterpret_cast<uint16_t*>(raw);
    const auto exactly = [&](int64_t at, int64_t count, int64_t first, int64_t width) {
      for (int64_t r = 0; r < count; ++r) to_doubles(w + (at + r) * columns_ + first, ElementType::kBF16, v + r * width, width);
      fold_block(steps_, steps_.size(), {v, nullptr, row + at, count, first, width}, columns_);
      for (int64_t r = 0; r < count; ++r) *bad += from_doubles(v + r * width, ElementType::kBF16, w + (at + r) * columns_ + first, width);
    };
    for (int64_t first = 0; first < columns_; first += Bf16Fold::kColumns) {
      const int64_t width = std::min(Bf16Fold::kColumns, columns_ - first), whole = width / Bf16Fold::kPart * Bf16Fold::kPart;
      for (int64_t at = 0; at < rows; at += kFoldRows) {
        const int64_t count = std::min(kFoldRows, rows - at);
        if (count < kFoldRows) {
          exactly(at, count, first, width);
          continue;
        }
        int64_t doubts[Bf16Fold::kParts];
        const int64_t found = bf16_.run(w + at * columns_ + first, row + at, first, whole, doubts);
        for (int64_t d = 0; d < found; ++d) exactly(at, count, first + doubts[d], Bf16Fold::kPart);
        if (whole < width) exactly(at, count, first + whole, width - whole);
      }
    }
    return {};
  }

  // Reads piece i and gives its elements, folded by the first `count` steps, to `use`(first element, elements, values): parts of
  // rows, whole ones where there are norms.
  template <class Use>
  IoStatus each_block(int64_t i, size_t count, bool stop_before_norm, char* raw, const Use& use) const {
    const int64_t elements = piece_count(i), block = std::min(kFoldRows * columns_, elements);
    IoStatus status = source_.read(from(i), static_cast<uint64_t>(elements * from_size_), raw);
    if (!status.ok()) return status;
    const bool whole_rows = flat_ || std::any_of(segment_.steps.begin(), segment_.steps.end(), [](const FoldStepSource& step) { return step.norm != FoldStep::kNone; });
    const int64_t width = whole_rows ? columns_ : std::min(kWidth, columns_);
    double* v = static_cast<double*>(thread_scratch(kValues, static_cast<size_t>(kFoldRows * width) * 8));
    double* mixed = static_cast<double*>(thread_scratch(kMixed, static_cast<size_t>(kFoldRows * width) * 8));
    if (!v || !mixed) return no_memory(segment_.name);
    for (int64_t at = 0; at < elements; at += block) {
      const int64_t n = std::min(block, elements - at);
      if (flat_) {
        to_doubles(raw + at * from_size_, segment_.from_type, v, n);
        use(at, n, v);
        continue;
      }
      for (int64_t first = 0; first < columns_; first += width) {
        const FoldBlock part{v, mixed, (i * piece_ + at) / columns_, n / columns_, first, std::min(width, columns_ - first)};
        for (int64_t r = 0; r < part.rows; ++r) to_doubles(raw + (at + r * columns_ + first) * from_size_, segment_.from_type, v + r * part.width, part.width);
        fold_block(steps_, count, part, columns_, stop_before_norm);
        for (int64_t r = 0; r < part.rows; ++r) use(at + r * columns_ + first, part.width, v + r * part.width);
      }
    }
    return {};
  }

  // Norms of the columns for the last step: sums of each piece, added in order.
  IoStatus measure_columns() {
    const size_t columns = static_cast<size_t>(columns_);
    std::vector<double>& norms = steps_.back().column_norms;
    norms.assign(columns, 0);
    std::vector<double> sums;
    for (int64_t first = 0; first < pieces(); first += kWave) {
      const int64_t wave = std::min(kWave, pieces() - first);
      sums.assign(static_cast<size_t>(wave) * columns, 0);
      std::vector<IoStatus> states(static_cast<size_t>(wave));
      parallel_for(wave, [&](int64_t task) {
        char* raw = static_cast<char*>(thread_scratch(kRaw, static_cast<size_t>(piece_count(first + task) * from_size_)));
        double* sum = sums.data() + static_cast<size_t>(task) * columns;
        if (!raw) {
          states[static_cast<size_t>(task)] = no_memory(segment_.name);
          return;
        }
        states[static_cast<size_t>(task)] = each_block(first + task, steps_.size(), true, raw, [&](int64_t, int64_t n, double* v) {
          for (int64_t j = 0; j < n; ++j) sum[j] += v[j] * v[j];
        });
      });
      for (IoStatus& state : states) {
        if (!state.ok()) return state;
      }
      for (size_t j = 0; j < sums.size(); ++j) norms[j % columns] += sums[j];
    }
    for (double& norm : norms) norm = std::sqrt(norm);
    return {};
  }

  const MergeSegment& segment_;
  const ReadFile& source_;
  int64_t from_size_, to_size_, columns_, count_, piece_;
  bool flat_, fast_ = false;
  std::vector<FoldStep> steps_;
  Bf16Fold bf16_;
};

// The first error of many tasks, by their order.
class FirstError {
 public:
  void add(int64_t task, IoStatus status) {
    if (status.ok()) return;
    std::lock_guard<std::mutex> lock(mutex_);
    if (task < first_) first_ = task, status_ = std::move(status);
    failed_.store(true);
  }
  bool failed() const { return failed_.load(); }
  IoStatus status() { return status_; }

 private:
  std::mutex mutex_;
  std::atomic<bool> failed_{false};
  int64_t first_ = INT64_MAX;
  IoStatus status_;
};

int64_t load(const int64_t* word) { return word ? __atomic_load_n(word, __ATOMIC_RELAXED) : 0; }

struct Range {
  uint64_t from, to, from_end, to_end;
};

// Runs pieces [0, pieces); where(piece, source) is its range in that source and in the target. Each piece asks for the one a
// wave ahead and lets its own pages go, all beside the work of the others. What the system held in memory before is neither
// asked for nor let go.
template <class Where, class Work>
IoStatus in_waves(int64_t pieces, const std::vector<const ReadFile*>& sources, const MergeControl& control, const Where& where, const Work& work) {
  FirstError error;
  std::vector<bool> cold;
  for (size_t s = 0; s < sources.size() && pieces > 0; ++s) cold.push_back(!sources[s]->is_cached(where(pieces - 1, s).from_end - 1));
  const auto piece = [&](int64_t i) {
    if (load(control.abort) != 0) return IoStatus::error("E_ABORTED", "merge: the work was aborted");
    for (size_t s = 0; s < sources.size() && i + kAhead < pieces; ++s) {
      const Range ahead = where(i + kAhead, s);
      if (cold[s]) sources[s]->will_need(ahead.from, ahead.from_end - ahead.from);
    }
    IoStatus status = work(i);
    if (!status.ok()) return status;
    for (size_t s = 0; s < sources.size(); ++s) {
      if (cold[s]) sources[s]->will_not_need(where(i, s).from, where(i, s).from_end - where(i, s).from);
    }
    const Range done = where(i, 0);
    if (control.done) __atomic_fetch_add(control.done, static_cast<int64_t>(done.to_end - done.to), __ATOMIC_RELAXED);
    return status;
  };
  for (int64_t first = 0; first < pieces && !error.failed(); first += kWave) {
    parallel_for(std::min(kWave, pieces - first), [&](int64_t task) {
      if (!error.failed()) error.add(task, piece(first + task));
    });
  }
  return error.status();
}

IoStatus copy_segment(const MergeSegment& segment, const ReadFile& source, const WriteFile& target, const MergeControl& control) {
  constexpr uint64_t kCopy = 4 << 20;
  const auto where = [&](int64_t i, size_t) {
    const uint64_t begin = static_cast<uint64_t>(i) * kCopy, end = std::min(begin + kCopy, segment.bytes);
    return Range{segment.from + begin, segment.to + begin, segment.from + end, segment.to + end};
  };
  return in_waves(static_cast<int64_t>((segment.bytes + kCopy - 1) / kCopy), {&source}, control, where, [&](int64_t i) {
    const Range r = where(i, 0);
    IoStatus status = target.copy(source, r.from, r.to, r.from_end - r.from);
    target.start_writeback(r.to, r.to_end - r.to);
    return status;
  });
}

IoStatus fold_segment(const MergeSegment& segment, const ReadFile& source, PieceWriter& writer, const MergeControl& control, int64_t* non_finite) {
  if (!is_foldable(segment.from_type) || !is_foldable(segment.to_type)) return IoStatus::error("E_DTYPE", segment.name + ": expected F32, F16, BF16 or F64, got " + element_type_name(segment.from_type));
  Fold fold(segment, source);
  IoStatus status = fold.prepare();
  if (!status.ok()) return status;
  std::atomic<int64_t> wrong{0};
  const auto where = [&](int64_t i, size_t) { return Range{fold.from(i), fold.to(i), fold.from(i + 1), fold.to(i + 1)}; };
  status = in_waves(fold.pieces(), {&source}, control, where, [&](int64_t i) { return fold.run(i, writer, &wrong); });
  *non_finite = wrong.load();
  return status;
}

IoStatus combine_segment(const MergeSegment& segment, const std::vector<std::unique_ptr<ReadFile>>& sources, PieceWriter& writer, const MergeControl& control, int64_t* non_finite) {
  std::vector<CombineInput> inputs;
  std::vector<const ReadFile*> files;
  for (const MergeInput& input : segment.inputs) {
    if (!is_foldable(input.type) || !is_foldable(segment.to_type)) return IoStatus::error("E_DTYPE", segment.name + ": expected F32, F16, BF16 or F64, got " + element_type_name(input.type));
    files.push_back(sources[input.source].get());
    inputs.push_back({files.back(), input.from, input.type, nullptr});
  }
  CombineRun combine(std::move(inputs), segment.rows, segment.combine);
  IoStatus status = combine.prepare();
  if (!status.ok()) return status;
  const uint64_t to_size = element_size(segment.to_type);
  std::atomic<int64_t> wrong{0};
  const auto where = [&](int64_t i, size_t s) {
    const uint64_t from_size = element_size(segment.inputs[s].type), begin = static_cast<uint64_t>(i * CombineRun::kPiece), end = begin + static_cast<uint64_t>(combine.piece_count(i));
    return Range{segment.inputs[s].from + begin * from_size, segment.to + begin * to_size, segment.inputs[s].from + end * from_size, segment.to + end * to_size};
  };
  status = in_waves(combine.pieces(), files, control, where, [&](int64_t i) {
    std::vector<double> values;
    IoStatus state = combine.run(i, &values);
    if (!state.ok()) return state;
    const uint64_t bytes = values.size() * to_size;
    char* piece = writer.take(where(i, 0).to, bytes);
    if (!piece) return no_memory(segment.name);
    wrong.fetch_add(from_doubles(values.data(), segment.to_type, piece, static_cast<int64_t>(values.size())));
    writer.put(piece, where(i, 0).to, bytes);
    return writer.status();
  });
  *non_finite = wrong.load();
  return status;
}

IoStatus open_sources(const MergeFile& plan, std::vector<std::unique_ptr<ReadFile>>* out) {
  for (const MergeFile::Source& source : plan.sources) {
    out->push_back(std::make_unique<ReadFile>());
    IoStatus status = out->back()->open(source.path, source.size);
    if (!status.ok()) return status;
  }
  return {};
}

}  // namespace

IoStatus merge_file(const MergeFile& plan, const MergeControl& control, std::vector<int64_t>* non_finite) {
  std::vector<std::unique_ptr<ReadFile>> sources;
  IoStatus status = open_sources(plan, &sources);
  WriteFile target;
  if (status.ok()) status = target.create(plan.target, plan.size);
  if (status.ok()) status = target.write(0, plan.header.size(), plan.header.data());
  non_finite->assign(plan.segments.size(), 0);
  PieceWriter writer(target);
  for (size_t i = 0; i < plan.segments.size() && status.ok(); ++i) {
    const MergeSegment& segment = plan.segments[i];
    const ReadFile& source = *sources[segment.source];
    if (segment.rows == 0) {
      status = copy_segment(segment, source, target, control);
    } else {
      status = segment.inputs.empty() ? fold_segment(segment, source, writer, control, &(*non_finite)[i]) : combine_segment(segment, sources, writer, control, &(*non_finite)[i]);
      if (status.ok() && plan.finite && (*non_finite)[i] > 0) status = IoStatus::error("E_NOT_FINITE", segment.name + ": expected finite results, got " + std::to_string((*non_finite)[i]) + " that are NaN or infinite");
    }
  }
  IoStatus written = writer.finish();
  if (status.ok()) status = written;
  for (const auto& source : sources) {
    if (status.ok()) status = source->check_unchanged();
  }
  return status.ok() ? target.sync() : status;
}

IoStatus measure_drift(const MergeFile& plan, const MergeSegment& segment, int64_t stride, FoldDrift* drift) {
  ReadFile source, written;
  IoStatus status = source.open(plan.sources[segment.source].path, plan.sources[segment.source].size);
  if (status.ok()) status = written.open(plan.target, plan.size);
  if (!status.ok()) return status;
  Fold fold(segment, source);
  status = fold.prepare();
  const int64_t columns = segment.columns;
  const uint64_t from_row = static_cast<uint64_t>(columns) * element_size(segment.from_type), to_row = static_cast<uint64_t>(columns) * element_size(segment.to_type);
  std::vector<char> before(from_row), after(to_row);
  std::vector<double> w(static_cast<size_t>(columns)), exact(w.size()), got(w.size());
  for (int64_t row = 0; row < segment.rows && status.ok(); row += stride) {
    status = source.read(segment.from + static_cast<uint64_t>(row) * from_row, from_row, before.data());
    if (status.ok()) status = written.read(segment.to + static_cast<uint64_t>(row) * to_row, to_row, after.data());
    if (!status.ok()) break;
    to_doubles(before.data(), segment.from_type, w.data(), columns), to_doubles(after.data(), segment.to_type, got.data(), columns);
    exact = w;
    for (const FoldStep& step : fold.steps()) {
      const int64_t own = row - step.first;
      if (own < 0 || own >= step.count) continue;
      std::vector<double> d(exact);
      double square = 0;
      for (int64_t j = 0; j < columns; ++j) {
        double change = step.low_rank ? 0 : step.p[static_cast<size_t>(own * columns + j)];
        for (int64_t r = 0; step.low_rank && r < step.rank; ++r) change += step.p[static_cast<size_t>(own * step.rank + r)] * step.q[static_cast<size_t>(r * columns + j)];
        d[static_cast<size_t>(j)] += change, square += d[static_cast<size_t>(j)] * d[static_cast<size_t>(j)];
      }
      for (int64_t j = 0; j < columns; ++j) {
        const size_t at = static_cast<size_t>(j);
        if (step.norm == FoldStep::kNone) exact[at] = d[at];
        const double m = step.norm == FoldStep::kRows ? step.magnitude[static_cast<size_t>(own)] / std::sqrt(square) : step.norm == FoldStep::kColumns ? step.magnitude[at] / step.column_norms[at] : 0;
        if (step.norm != FoldStep::kNone) exact[at] += step.weight * (m * d[at] - exact[at]);
      }
    }
    drift->rows++;
    for (size_t j = 0; j < w.size(); ++j) {
      const double off = got[j] - exact[j], ulp = std::fabs(off) / unit_in_last_place(exact[j], segment.to_type);
      drift->elements++, drift->changed += got[j] != w[j];
      drift->max_ulp = std::max(drift->max_ulp, ulp), drift->sum_ulp += ulp;
      drift->error += off * off, drift->exact += exact[j] * exact[j], drift->delta += (exact[j] - w[j]) * (exact[j] - w[j]);
    }
  }
  return status;
}

}  // namespace cambium

#include "resize.h"

#include <cmath>
#include <cstring>
#include <new>
#include <vector>

namespace cambium {

namespace {

constexpr int kPrecisionBits = 32 - 8 - 2;  // 8 bits of the pixel and 2 of overshoot leave 22 for the coefficients
constexpr int kMaxSide = 65535;
constexpr double kPi = 3.14159265358979323846;

double box_filter(double x) { return x > -0.5 && x <= 0.5 ? 1.0 : 0.0; }

double bilinear(double x) {
  x = std::fabs(x);
  return x < 1.0 ? 1.0 - x : 0.0;
}

double hamming(double x) {
  x = std::fabs(x);
  if (x == 0.0) return 1.0;
  if (x >= 1.0) return 0.0;
  x *= kPi;
  return std::sin(x) / x * (0.54f + 0.46f * std::cos(x));  // the float constants are Pillow's
}

double bicubic(double x) {
  constexpr double a = -0.5;  // Keys 1981, as Pillow; OpenCV and torch use -0.75
  x = std::fabs(x);
  if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
  if (x < 2.0) return (((x - 5) * x + 8) * x - 4) * a;
  return 0.0;
}

double sinc(double x) {
  if (x == 0.0) return 1.0;
  x *= kPi;
  return std::sin(x) / x;
}

double lanczos(double x) { return -3.0 <= x && x < 3.0 ? sinc(x) * sinc(x / 3) : 0.0; }

struct Filter {
  double (*weight)(double);
  double support;
};

Filter filter_of(Resample resample) {
  switch (resample) {
    case Resample::kLanczos:
      return {lanczos, 3.0};
    case Resample::kBilinear:
      return {bilinear, 1.0};
    case Resample::kBox:
      return {box_filter, 0.5};
    case Resample::kHamming:
      return {hamming, 1.0};
    default:
      return {bicubic, 2.0};
  }
}

// For each output position: which inputs it reads, and with what fixed-point weights.
struct Taps {
  int stride = 0;  // weights per output
  std::vector<int> first, count;
  std::vector<int32_t> weights;
};

Taps make_taps(int in_size, float low, float high, int out_size, const Filter& filter) {
  const double scale = static_cast<double>(high - low) / out_size;
  const double filter_scale = scale < 1.0 ? 1.0 : scale;
  const double support = filter.support * filter_scale, inverse = 1.0 / filter_scale;
  Taps taps;
  taps.stride = static_cast<int>(std::ceil(support)) * 2 + 1;
  taps.first.resize(out_size);
  taps.count.resize(out_size);
  taps.weights.assign(static_cast<size_t>(out_size) * taps.stride, 0);
  std::vector<double> row(taps.stride);
  for (int o = 0; o < out_size; ++o) {
    const double center = low + (o + 0.5) * scale;
    int first = static_cast<int>(center - support + 0.5), end = static_cast<int>(center + support + 0.5);
    if (first < 0) first = 0;
    if (end > in_size) end = in_size;
    double sum = 0.0;
    for (int i = first; i < end; ++i) sum += row[i - first] = filter.weight((i - center + 0.5) * inverse);
    for (int i = 0; i < end - first; ++i) {
      const double w = sum != 0.0 ? row[i] / sum : row[i];
      taps.weights[static_cast<size_t>(o) * taps.stride + i] =
          static_cast<int32_t>((w < 0 ? -0.5 : 0.5) + w * (1 << kPrecisionBits));
    }
    taps.first[o] = first;
    taps.count[o] = end - first;
  }
  return taps;
}

inline uint8_t clip8(int32_t sum) {
  const int32_t value = sum >> kPrecisionBits;
  return static_cast<uint8_t>(value < 0 ? 0 : value > 255 ? 255 : value);
}

void resize_rows(const RgbView& src, int row_begin, int row_end, const Taps& taps, int out_width, uint8_t* dst) {
  for (int y = row_begin; y < row_end; ++y) {
    const uint8_t* row = src.data + static_cast<size_t>(y) * src.stride;
    for (int x = 0; x < out_width; ++x) {
      const uint8_t* pixel = row + static_cast<size_t>(taps.first[x]) * 3;
      const int32_t* weight = taps.weights.data() + static_cast<size_t>(x) * taps.stride;
      int32_t r = 1 << (kPrecisionBits - 1), g = r, b = r;
      for (int i = 0; i < taps.count[x]; ++i, pixel += 3) {
        r += pixel[0] * weight[i];
        g += pixel[1] * weight[i];
        b += pixel[2] * weight[i];
      }
      *dst++ = clip8(r);
      *dst++ = clip8(g);
      *dst++ = clip8(b);
    }
  }
}

// `src` starts at source row `row_offset`. Whole rows at a time: contiguous, so the compiler vectorises it.
void resize_columns(const uint8_t* src, size_t src_stride, int row_offset, const Taps& taps, int out_height,
                    int row_bytes, uint8_t* dst) {
  std::vector<int32_t> sums(row_bytes);
  for (int y = 0; y < out_height; ++y) {
    const int32_t* weight = taps.weights.data() + static_cast<size_t>(y) * taps.stride;
    const uint8_t* row = src + static_cast<size_t>(taps.first[y] - row_offset) * src_stride;
    for (int x = 0; x < row_bytes; ++x) sums[x] = 1 << (kPrecisionBits - 1);
    for (int i = 0; i < taps.count[y]; ++i, row += src_stride) {
      const int32_t w = weight[i];
      for (int x = 0; x < row_bytes; ++x) sums[x] += row[x] * w;
    }
    for (int x = 0; x < row_bytes; ++x) dst[x] = clip8(sums[x]);
    dst += row_bytes;
  }
}

void copy_rows(const RgbView& src, uint8_t* dst) {
  const size_t bytes = static_cast<size_t>(src.width) * 3;
  for (int y = 0; y < src.height; ++y)
    std::memcpy(dst + y * bytes, src.data + static_cast<size_t>(y) * src.stride, bytes);
}

// Pillow's affine transform with a nearest filter: the pixel that holds the centre of the output pixel.
void resize_nearest(const RgbView& src, const ResizeBox& box, int out_width, int out_height, uint8_t* dst) {
  const double sx = (static_cast<double>(box.right) - box.left) / out_width;
  const double sy = (static_cast<double>(box.bottom) - box.top) / out_height;
  std::vector<int> columns(out_width);
  // Summed, not multiplied, as Pillow walks a row: the rounding of the position is part of the result.
  double position = box.left + sx * 0.5;
  for (int x = 0; x < out_width; ++x, position += sx) {
    const int column = static_cast<int>(position);
    columns[x] = column < src.width ? column : src.width - 1;
  }
  position = box.top + sy * 0.5;
  for (int y = 0; y < out_height; ++y, position += sy) {
    const int line = static_cast<int>(position);
    const uint8_t* row = src.data + static_cast<size_t>(line < src.height ? line : src.height - 1) * src.stride;
    for (int x = 0; x < out_width; ++x, dst += 3) std::memcpy(dst, row + static_cast<size_t>(columns[x]) * 3, 3);
  }
}

void resize_filtered(const RgbView& src, const ResizeBox& box, Resample resample, int out_width, int out_height,
                     uint8_t* dst) {
  const Filter filter = filter_of(resample);
  const bool horizontal = out_width != src.width || box.left != 0 || box.right != static_cast<float>(out_width);
  const bool vertical = out_height != src.height || box.top != 0 || box.bottom != static_cast<float>(out_height);
  if (!vertical) {
    resize_rows(src, 0, src.height, make_taps(src.width, box.left, box.right, out_width, filter), out_width, dst);
    return;
  }
  const Taps rows = make_taps(src.height, box.top, box.bottom, out_height, filter);
  const int row_bytes = out_width * 3;
  if (!horizontal) {
    resize_columns(src.data, src.stride, 0, rows, out_height, row_bytes, dst);
    return;
  }
  // Only the rows that the second pass reads.
  const int begin = rows.first.front(), end = rows.first.back() + rows.count.back();
  std::vector<uint8_t> middle(static_cast<size_t>(end - begin) * row_bytes);
  resize_rows(src, begin, end, make_taps(src.width, box.left, box.right, out_width, filter), out_width, middle.data());
  resize_columns(middle.data(), row_bytes, begin, rows, out_height, row_bytes, dst);
}

IoStatus check(const RgbView& src, const ResizeBox& box, int out_width, int out_height) {
  if (src.width <= 0 || src.height <= 0 || out_width <= 0 || out_height <= 0) {
    return IoStatus::error("E_SHAPE", "resize: expected sides of at least one pixel");
  }
  if (src.width > kMaxSide || src.height > kMaxSide || out_width > kMaxSide || out_height > kMaxSide) {
    return IoStatus::error("E_SHAPE", "resize: expected sides of at most 65535 pixels");
  }
  if (!(box.left >= 0 && box.top >= 0 && box.left < box.right && box.top < box.bottom &&
        box.right <= static_cast<float>(src.width) && box.bottom <= static_cast<float>(src.height))) {
    return IoStatus::error("E_SHAPE", "resize: expected a box inside the image and not empty");
  }
  return {};
}

}  // namespace

bool resample_from_name(const char* name, Resample* out) {
  static const char* const kNames[] = {"nearest", "lanczos", "bilinear", "bicubic", "box", "hamming"};
  for (int i = 0; i < 6; ++i) {
    if (std::strcmp(name, kNames[i]) == 0) {
      *out = static_cast<Resample>(i);
      return true;
    }
  }
  return false;
}

IoStatus resize_rgb(const RgbView& src, const ResizeBox* box, Resample resample, int out_width, int out_height,
                    uint8_t* dst) {
  const ResizeBox whole{0, 0, static_cast<float>(src.width), static_cast<float>(src.height)};
  const ResizeBox& part = box ? *box : whole;
  IoStatus status = check(src, part, out_width, out_height);
  if (!status.ok()) return status;
  const bool everything = part.left == 0 && part.top == 0 && part.right == whole.right && part.bottom == whole.bottom;
  try {
    if (everything && out_width == src.width && out_height == src.height) {
      copy_rows(src, dst);
    } else if (resample == Resample::kNearest) {
      resize_nearest(src, part, out_width, out_height, dst);
    } else {
      resize_filtered(src, part, resample, out_width, out_height, dst);
    }
  } catch (const std::bad_alloc&) {
    return IoStatus::error("E_NO_MEMORY", "resize: no memory for the rows between the passes");
  }
  return {};
}

void flip_rgb_horizontal(uint8_t* pixels, int width, int height) {
  for (int y = 0; y < height; ++y) {
    uint8_t* left = pixels + static_cast<size_t>(y) * width * 3;
    uint8_t* right = left + static_cast<size_t>(width - 1) * 3;
    for (; left < right; left += 3, right -= 3) {
      uint8_t swap[3];
      std::memcpy(swap, left, 3);
      std::memcpy(left, right, 3);
      std::memcpy(right, swap, 3);
    }
  }
}

}  // namespace cambium

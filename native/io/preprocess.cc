#include "preprocess.h"

#include <cstring>
#include <new>
#include <string>

namespace cambium {

namespace {

constexpr int kMostSide = 65535;
constexpr int64_t kMostPixels = 178956970;  // as of a decoded image: Pillow's limit

IoStatus check(int width, int height, const PreprocessPlan& plan) {
  if (width <= 0 || height <= 0)
    return IoStatus::error("E_SHAPE", "preprocess: expected an image of at least one pixel");
  const PixelBox& box = plan.box;
  if (plan.has_box && (box.left < 0 || box.top < 0 || box.width <= 0 || box.height <= 0 ||
                       box.width > width - box.left || box.height > height - box.top)) {
    return IoStatus::error("E_SHAPE", "preprocess: expected a box inside the image of " + std::to_string(width) +
                                          " x " + std::to_string(height) + " pixels");
  }
  // Before anything of that size is taken: a line of pixels, enlarged to a short side, has no end.
  if (plan.resize_width <= 0 || plan.resize_height <= 0 || plan.resize_width > kMostSide ||
      plan.resize_height > kMostSide || static_cast<int64_t>(plan.resize_width) * plan.resize_height > kMostPixels) {
    return IoStatus::error("E_SHAPE", "preprocess: expected a size of 1 to 65535 pixels a side and " +
                                          std::to_string(kMostPixels) + " in all, got " +
                                          std::to_string(plan.resize_width) + " x " +
                                          std::to_string(plan.resize_height));
  }
  if (plan.has_crop && (plan.crop.width <= 0 || plan.crop.height <= 0 || plan.crop.width > kMostSide ||
                        plan.crop.height > kMostSide)) {
    return IoStatus::error("E_SHAPE", "preprocess: expected a crop of 1 to 65535 pixels a side");
  }
  return {};
}

// dst [crop.height, crop.width, 3]; what lies outside the image is zero, as Hugging Face's center_crop pads.
void crop_padded(const uint8_t* src, int width, int height, const PixelBox& crop, uint8_t* dst) {
  const int begin = crop.left < 0 ? 0 : crop.left;
  const int64_t right = static_cast<int64_t>(crop.left) + crop.width;
  const int end = right > width ? width : static_cast<int>(right);
  for (int y = 0; y < crop.height; ++y) {
    uint8_t* row = dst + static_cast<size_t>(y) * crop.width * 3;
    const int64_t line = static_cast<int64_t>(crop.top) + y;
    if (line < 0 || line >= height || begin >= end) {
      std::memset(row, 0, static_cast<size_t>(crop.width) * 3);
      continue;
    }
    const size_t before = static_cast<size_t>(begin - crop.left) * 3, inside = static_cast<size_t>(end - begin) * 3;
    std::memset(row, 0, before);
    std::memcpy(row + before, src + (static_cast<size_t>(line) * width + begin) * 3, inside);
    std::memset(row + before + inside, 0, static_cast<size_t>(crop.width) * 3 - before - inside);
  }
}

// Only 256 values a channel exist, so a table gives the exact result at the price of a load.
void normalize_planes(const uint8_t* src, size_t pixels, const PreprocessPlan& plan, float* dst) {
  float table[3][256];
  for (int c = 0; c < 3; ++c) {
    for (int v = 0; v < 256; ++v) {
      const float scaled = static_cast<float>(static_cast<double>(v) * plan.rescale);
      table[c][v] = (scaled - plan.mean[c]) / plan.std[c];
    }
  }
  float *r = dst, *g = dst + pixels, *b = dst + 2 * pixels;
  for (size_t i = 0; i < pixels; ++i, src += 3) {
    r[i] = table[0][src[0]];
    g[i] = table[1][src[1]];
    b[i] = table[2][src[2]];
  }
}

}  // namespace

IoStatus preprocess_rgb_u8(const uint8_t* rgb, int width, int height, const PreprocessPlan& plan,
                           std::vector<uint8_t>* dst) {
  IoStatus status = check(width, height, plan);
  if (!status.ok()) return status;
  const size_t stride = static_cast<size_t>(width) * 3;
  RgbView view{rgb, width, height, stride};
  if (plan.has_box) {
    view = {rgb + plan.box.top * stride + static_cast<size_t>(plan.box.left) * 3, plan.box.width, plan.box.height,
            stride};
  }
  try {
    std::vector<uint8_t> resized(static_cast<size_t>(plan.resize_width) * plan.resize_height * 3);
    status = resize_rgb(view, nullptr, plan.resample, plan.resize_width, plan.resize_height, resized.data());
    if (!status.ok()) return status;
    if (plan.has_crop) {
      dst->resize(static_cast<size_t>(plan.crop.width) * plan.crop.height * 3);
      crop_padded(resized.data(), plan.resize_width, plan.resize_height, plan.crop, dst->data());
    } else {
      *dst = std::move(resized);
    }
  } catch (const std::bad_alloc&) {
    return IoStatus::error("E_NO_MEMORY", "preprocess: no memory for the resized image");
  }
  if (plan.flip) flip_rgb_horizontal(dst->data(), preprocess_width(plan), preprocess_height(plan));
  return {};
}

IoStatus preprocess_rgb(const uint8_t* rgb, int width, int height, const PreprocessPlan& plan, float* dst) {
  std::vector<uint8_t> pixels;
  IoStatus status = preprocess_rgb_u8(rgb, width, height, plan, &pixels);
  if (status.ok()) normalize_planes(pixels.data(), pixels.size() / 3, plan, dst);
  return status;
}

}  // namespace cambium

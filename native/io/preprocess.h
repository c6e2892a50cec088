// From a decoded image to the pixels a vision tower reads, in one call for one worker thread:
// integer crop -> resize -> crop with zero padding -> flip -> rescale and normalise to planes.
#pragma once

#include <cstdint>
#include <vector>

#include "io_status.h"
#include "resize.h"

namespace cambium {

struct PixelBox {
  int left = 0, top = 0, width = 0, height = 0;
};

struct PreprocessPlan {
  bool has_box = false;
  PixelBox box;  // of the source, inside it; what RandomResizedCrop chose
  int resize_width = 0, resize_height = 0;
  Resample resample = Resample::kBicubic;
  bool has_crop = false;
  PixelBox crop;  // of the resized image; may reach outside it, where pixels are 0
  bool flip = false;
  double rescale = 1.0 / 255.0;  // do_rescale: false -> 1
  float mean[3] = {0, 0, 0};
  float std[3] = {1, 1, 1};
};

// Width and height of the result: the crop's, else the resized image's.
inline int preprocess_width(const PreprocessPlan& plan) { return plan.has_crop ? plan.crop.width : plan.resize_width; }
inline int preprocess_height(const PreprocessPlan& plan) {
  return plan.has_crop ? plan.crop.height : plan.resize_height;
}

// rgb [height, width, 3] -> dst [3, preprocess_height, preprocess_width] f32:
// (f32(f64(pixel) * rescale) - mean) / std in f32, as transformers' image processors on numpy. Errors: E_SHAPE.
IoStatus preprocess_rgb(const uint8_t* rgb, int width, int height, const PreprocessPlan& plan, float* dst);

// The same without the last step: dst [preprocess_height, preprocess_width, 3] u8.
IoStatus preprocess_rgb_u8(const uint8_t* rgb, int width, int height, const PreprocessPlan& plan,
                           std::vector<uint8_t>* dst);

}  // namespace cambium

// Resizing of interleaved 8-bit RGB, bit for bit as Pillow's Image.resize: antialiased (the filter's support grows with
// the down-scale factor), horizontal pass, rounding to uint8, vertical pass, 22-bit fixed-point coefficients.
#pragma once

#include <cstddef>
#include <cstdint>

#include "io_status.h"

namespace cambium {

// Pillow's numbers, which preprocessor_config.json uses.
enum class Resample : int { kNearest = 0, kLanczos = 1, kBilinear = 2, kBicubic = 3, kBox = 4, kHamming = 5 };

// "nearest", "lanczos", "bilinear", "bicubic", "box", "hamming"; false for any other name.
bool resample_from_name(const char* name, Resample* out);

// A view of rows of RGB pixels; `stride` is the number of bytes from one row to the next. A crop is a view: its
// neighbours are not seen by the filter, as after Pillow's Image.crop.
struct RgbView {
  const uint8_t* data = nullptr;
  int width = 0;
  int height = 0;
  size_t stride = 0;
};

// The part of an image that is resized, in pixels, as Pillow's resize(box=): neighbours outside it are seen by the
// filter.
struct ResizeBox {
  float left, top, right, bottom;
};

// dst [out_height, out_width, 3]. `box` null: the whole view. Errors: E_SHAPE (empty or over 65535 a side, box
// outside).
IoStatus resize_rgb(const RgbView& src, const ResizeBox* box, Resample resample, int out_width, int out_height,
                    uint8_t* dst);

// Mirrors every row of an image [height, width, 3] in place.
void flip_rgb_horizontal(uint8_t* pixels, int width, int height);

}  // namespace cambium

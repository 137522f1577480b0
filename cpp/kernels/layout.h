// Moving values between layouts, and strided copies.
#pragma once

#include <cstddef>
#include <cstdint>

namespace fastcnn {

// Plain or channels-last images, beside the block [c][pixels][kWidth] that holds them interleaved.
struct BlockImages {
  std::int64_t images;  // at most kWidth
  std::int64_t c, pixels;
  bool channels_last;         // an image is [pixels][c], else [c][pixels]
  std::int64_t image, pixel;  // elements from one to the next; pixel of channels-last images
};

struct LayoutKernels {
  // dst[j * ld + i] = src[i * ls + j] for i < rows, j < cols
  void (*transpose)(const float* src, std::int64_t ls, std::int64_t rows, std::int64_t cols, float* dst,
                    std::int64_t ld);
  void (*transpose_u8)(const std::uint8_t* src, std::int64_t ls, std::int64_t rows, std::int64_t cols,
                       float* dst, std::int64_t ld);
  // Lanes without an image get 0.
  void (*interleave)(const BlockImages& b, const float* images, float* block);
  void (*interleave_u8)(const BlockImages& b, const std::uint8_t* images, float* block);
  void (*deinterleave)(const BlockImages& b, const float* block, float* images);
  void (*to_float)(const std::uint8_t* src, float* dst, std::int64_t n);
  // dst[r * ld + i] = src[r * ls + i] for i < n
  void (*copy_rows)(const float* src, std::int64_t ls, float* dst, std::int64_t ld, std::int64_t rows,
                    std::int64_t n);
  void (*zero_rows)(float* dst, std::int64_t ld, std::int64_t rows, std::int64_t n);
};

}  // namespace fastcnn

// Moving values between layouts, and strided copies.
#pragma once

#include <cstddef>
#include <cstdint>

namespace fastcnn {

struct LayoutKernels {
  // dst[j * ld + i] = src[i * ls + j] for i < rows, j < cols
  void (*transpose)(const float* src, std::int64_t ls, std::int64_t rows, std::int64_t cols, float* dst,
                    std::int64_t ld);
  void (*transpose_u8)(const std::uint8_t* src, std::int64_t ls, std::int64_t rows, std::int64_t cols,
                       float* dst, std::int64_t ld);
  // `images` (at most kWidth) images of n = c * hw values into one block [c][hw][kWidth]; the other lanes get
  // 0. channels_last: the image is [hw][c], else [c][hw].
  void (*interleave)(const float* images_src, std::int64_t images, std::int64_t c, std::int64_t hw,
                     bool channels_last, float* block);
  void (*interleave_u8)(const std::uint8_t* images_src, std::int64_t images, std::int64_t c, std::int64_t hw,
                        bool channels_last, float* block);
  void (*deinterleave)(const float* block, std::int64_t images, std::int64_t c, std::int64_t hw,
                       bool channels_last, float* images_dst);
  void (*to_float)(const std::uint8_t* src, float* dst, std::int64_t n);
  // dst[r * ld + i] = src[r * ls + i] for i < n
  void (*copy_rows)(const float* src, std::int64_t ls, float* dst, std::int64_t ld, std::int64_t rows,
                    std::int64_t n);
  void (*zero_rows)(float* dst, std::int64_t ld, std::int64_t rows, std::int64_t n);
};

}  // namespace fastcnn

// The convolution kernels that live in files of their own, as their neighbours call them.
#pragma once

#include "kernels/conv.h"
#include "kernels/simd/simd.h"

namespace fastcnn {
namespace FASTCNN_ISA {

FASTCNN_INLINE void store_first(float* p, Vec v, int n) {  // n may be anything
  if (n >= kWidth)
    store(p, v);
  else if (n > 0)
    store_n(p, v, n);
}
FASTCNN_INLINE Vec load_first(const float* p, int n) {
  return n >= kWidth ? load(p) : n > 0 ? load_n(p, n) : zero();
}

// conv_memory.cpp
void conv_patch(const ConvPatch& p);
void conv_finish(const ConvFinish& f);
void conv_moments(const float* y, std::ptrdiff_t pixel, std::int64_t pixels, std::int64_t c, bool first,
                  float* shift, float* sum, float* square);
void conv_pool(const ConvPool& p);
void conv_copy_pixels(const float* from, std::ptrdiff_t from_pixel, float* to, std::ptrdiff_t to_pixel,
                      std::int64_t pixels, std::int64_t c);
void conv_channel_sums(const float* y, std::ptrdiff_t pixel, std::int64_t pixels, std::int64_t c,
                       float* sums);
void conv_pack_weights(const ConvWeights& s, const float* w, float* packed);
void conv_unpack_weights(const ConvWeights& s, const float* packed, std::ptrdiff_t group_stride, int groups,
                         float* w);

// conv_depthwise.cpp
void depthwise_row(const DepthwiseRow& r);
void depthwise_outer(const DepthwiseOuter& o);

}  // namespace FASTCNN_ISA
}  // namespace fastcnn

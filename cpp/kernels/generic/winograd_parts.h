// F(4x4, 3x3) with the points 0, 1, -1, 2, -2, infinity: the one-dimensional transforms.
// Lavin & Gray 2016, "Fast algorithms for convolutional neural networks", section 4.3.
#pragma once

#include "kernels/generic/conv_parts.h"
#include "kernels/simd/simd.h"
#include "kernels/winograd.h"

namespace fastcnn {
namespace FASTCNN_ISA {

// Makes the compiler compute an address here and now: it would otherwise work out all 36 before the loop over
// channels and keep them in memory.
template <class T>
FASTCNN_INLINE T* here(T* p) {
  __asm__ volatile("" : "+r"(p));
  return p;
}

// o = B^T d
FASTCNN_INLINE void input_1d(const Vec (&d)[6], Vec (&o)[6]) {
  const Vec two = broadcast(2.0f), four = broadcast(4.0f);
  const Vec a = fma(-four, d[2], d[4]), b = fma(-four, d[1], d[3]);
  const Vec e = d[4] - d[2], f = d[3] - d[1];
  o[0] = fma(four, d[0] - d[2], e);
  o[1] = a + b;
  o[2] = a - b;
  o[3] = fma(two, f, e);
  o[4] = fma(-two, f, e);
  o[5] = fma(-four, f, d[5] - d[3]);
}

// o = A^T m
FASTCNN_INLINE void output_1d(const Vec (&m)[6], Vec (&o)[4]) {
  const Vec s1 = m[1] + m[2], d1 = m[1] - m[2], s2 = m[3] + m[4], d2 = m[3] - m[4];
  o[0] = m[0] + s1 + s2;
  o[1] = fma(broadcast(2.0f), d2, d1);
  o[2] = fma(broadcast(4.0f), s2, s1);
  o[3] = fma(broadcast(8.0f), d2, d1) + m[5];
}

// o = A y
FASTCNN_INLINE void gradient_1d(const Vec (&y)[4], Vec (&o)[6]) {
  const Vec a = y[0] + y[2], b = y[1] + y[3];
  const Vec c = fma(broadcast(4.0f), y[2], y[0]), d = fma(broadcast(8.0f), y[3], y[1] + y[1]);
  o[0] = y[0];
  o[1] = a + b;
  o[2] = a - b;
  o[3] = c + d;
  o[4] = c - d;
  o[5] = y[3];
}

// o = G g
FASTCNN_INLINE void weight_1d(const Vec (&g)[3], Vec (&o)[6]) {
  const Vec sixth = broadcast(1.0f / 6), twelfth = broadcast(1.0f / 12), c24 = broadcast(1.0f / 24);
  const Vec a = (g[0] + g[2]) * -sixth, b = fma(c24, g[0], sixth * g[2]);
  o[0] = g[0] * 0.25f;
  o[1] = fma(-sixth, g[1], a);
  o[2] = fma(sixth, g[1], a);
  o[3] = fma(twelfth, g[1], b);
  o[4] = fma(-twelfth, g[1], b);
  o[5] = g[2];
}

// o = G^T m
FASTCNN_INLINE void weight_gradient_1d(const Vec (&m)[6], Vec (&o)[3]) {
  const Vec sixth = broadcast(1.0f / 6), twelfth = broadcast(1.0f / 12), c24 = broadcast(1.0f / 24);
  const Vec s12 = (m[1] + m[2]) * -sixth, d21 = (m[2] - m[1]) * sixth, s34 = m[3] + m[4], d34 = m[3] - m[4];
  o[0] = fma(broadcast(0.25f), m[0], fma(c24, s34, s12));
  o[1] = fma(twelfth, d34, d21);
  o[2] = fma(sixth, s34, s12) + m[5];
}

// f(image, row, col, i) for every tile of the run; i counts from 0.
template <class F>
FASTCNN_INLINE void for_tiles(const WinogradTiles& t, F&& f) {
  const std::int64_t per_image = t.rows * t.cols;
  std::int64_t image = t.first / per_image, rest = t.first % per_image;
  std::int64_t row = rest / t.cols, col = rest % t.cols;
  for (std::int64_t i = 0; i < t.count; ++i) {
    f(image, row, col, i);
    if (++col < t.cols) continue;
    col = 0;
    if (++row < t.rows) continue;
    row = 0;
    ++image;
  }
}

// winograd_weights.cpp
void winograd_weights(const WinogradWeights& s, const float* w, float* u);
void winograd_weight_gradient(const WinogradWeights& s, const float* du, float* dw);

}  // namespace FASTCNN_ISA
}  // namespace fastcnn

// F(4x4, 3x3) by Toom-Cook with six points: the one-dimensional transforms. Lavin & Gray 2016, "Fast
// algorithms for convolutional neural networks", section 4.3; the choice of points: Barabasz et al. 2020,
// "Error analysis and improving the accuracy of Winograd convolution for deep neural networks".
#pragma once

#include "kernels/generic/conv/parts.h"
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

// The finite points besides 0 are +-kA and +-kB. With 5/8 and 3/2 rounding errors are less than half those of
// the usual 1 and 2, and every constant of B and A is still exact.
constexpr float kA = 0.625f, kA2 = kA * kA, kA3 = kA2 * kA;
constexpr float kB = 1.5f, kB2 = kB * kB, kB3 = kB2 * kB;
constexpr float kG0 = 1 / (kA2 * kB2);              // G's row of 0
constexpr float kGA = 1 / (2 * kA2 * (kA2 - kB2));  // of +-kA, times (1, +-kA, kA2)
constexpr float kGB = 1 / (2 * kB2 * (kB2 - kA2));  // of +-kB

// o = B^T d
FASTCNN_INLINE void input_1d(const Vec (&d)[6], Vec (&o)[6]) {
  const Vec a = broadcast(kA), b = broadcast(kB), a2 = broadcast(kA2), b2 = broadcast(kB2);
  const Vec sum = broadcast(kA2 + kB2), product = broadcast(kA2 * kB2);
  const Vec e = fma(-b2, d[2], d[4]), f = fma(-b2, d[1], d[3]);
  const Vec g = fma(-a2, d[2], d[4]), h = fma(-a2, d[1], d[3]);
  o[0] = fma(product, d[0], fma(-sum, d[2], d[4]));
  o[1] = fma(a, f, e);
  o[2] = fma(-a, f, e);
  o[3] = fma(b, h, g);
  o[4] = fma(-b, h, g);
  o[5] = fma(product, d[1], fma(-sum, d[3], d[5]));
}

// o = A^T m
FASTCNN_INLINE void output_1d(const Vec (&m)[6], Vec (&o)[4]) {
  const Vec s1 = m[1] + m[2], d1 = m[1] - m[2], s2 = m[3] + m[4], d2 = m[3] - m[4];
  o[0] = m[0] + s1 + s2;
  o[1] = fma(broadcast(kB), d2, d1 * kA);
  o[2] = fma(broadcast(kB2), s2, s1 * kA2);
  o[3] = fma(broadcast(kB3), d2, fma(broadcast(kA3), d1, m[5]));
}

// o = A y
FASTCNN_INLINE void gradient_1d(const Vec (&y)[4], Vec (&o)[6]) {
  const Vec e = fma(broadcast(kA2), y[2], y[0]), f = fma(broadcast(kA3), y[3], y[1] * kA);
  const Vec g = fma(broadcast(kB2), y[2], y[0]), h = fma(broadcast(kB3), y[3], y[1] * kB);
  o[0] = y[0];
  o[1] = e + f;
  o[2] = e - f;
  o[3] = g + h;
  o[4] = g - h;
  o[5] = y[3];
}

// o = G g
FASTCNN_INLINE void weight_1d(const Vec (&g)[3], Vec (&o)[6]) {
  const Vec e = fma(broadcast(kA2), g[2], g[0]) * kGA, f = g[1] * (kA * kGA);
  const Vec h = fma(broadcast(kB2), g[2], g[0]) * kGB, i = g[1] * (kB * kGB);
  o[0] = g[0] * kG0;
  o[1] = e + f;
  o[2] = e - f;
  o[3] = h + i;
  o[4] = h - i;
  o[5] = g[2];
}

// o = G^T m
FASTCNN_INLINE void weight_gradient_1d(const Vec (&m)[6], Vec (&o)[3]) {
  const Vec s1 = (m[1] + m[2]) * kGA, d1 = (m[1] - m[2]) * (kA * kGA);
  const Vec s2 = (m[3] + m[4]) * kGB, d2 = (m[3] - m[4]) * (kB * kGB);
  o[0] = fma(broadcast(kG0), m[0], s1 + s2);
  o[1] = d1 + d2;
  o[2] = fma(broadcast(kA2), s1, fma(broadcast(kB2), s2, m[5]));
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

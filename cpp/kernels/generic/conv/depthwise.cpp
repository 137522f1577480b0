// Depthwise convolution: lanes along channels. Every multiplication needs its own load, so the tiles only
// have to hide the latency of the sums.
#include "kernels/generic/conv/parts.h"

namespace fastcnn {
namespace FASTCNN_ISA {
namespace {

constexpr int kPixels = 6;
constexpr int kTaps = kAccumulators < 9 ? kAccumulators - 2 : 9;

FASTCNN_INLINE Vec get(const float* p, int n) { return n == kWidth ? load(p) : load_n(p, n); }

template <int NP>
FASTCNN_INLINE void row_tile(const DepthwiseRow& r, std::int64_t p, std::int64_t c, int n) {
  Vec acc[NP];
  const Vec bias = r.bias ? load_n(r.bias + c, n) : zero();
#pragma GCC unroll 8
  for (int i = 0; i < NP; ++i) acc[i] = bias;
  for (int t = 0; t < r.taps; ++t) {
    const float* in = r.in + p * r.in_pixel + r.offsets[t] + c;
    const Vec w = load(r.w + t * r.w_tap + c);
#pragma GCC unroll 8
    for (int i = 0; i < NP; ++i) acc[i] = fma(get(in + i * r.in_pixel, n), w, acc[i]);
  }
#pragma GCC unroll 8
  for (int i = 0; i < NP; ++i) store_first(r.out + (p + i) * r.out_pixel + c, acc[i], n);
}

template <int NT>
FASTCNN_INLINE void outer_tile(const DepthwiseOuter& o, int first, std::int64_t c, int n) {
  Vec acc[NT];
  const float* x[NT];
#pragma GCC unroll 9
  for (int t = 0; t < NT; ++t) acc[t] = zero(), x[t] = o.x + o.offsets[first + t] + c;
  const float* dy = o.dy + c;
  for (std::int64_t p = 0; p < o.pixels; ++p, dy += o.dy_pixel) {
    const Vec d = get(dy, n);
#pragma GCC unroll 9
    for (int t = 0; t < NT; ++t) acc[t] = fma(get(x[t] + p * o.x_pixel, n), d, acc[t]);
  }
#pragma GCC unroll 9
  for (int t = 0; t < NT; ++t) {
    float* dw = o.dw + (first + t) * o.dw_tap + c;
    store_n(dw, load_n(dw, n) + acc[t], n);
  }
}

}  // namespace

void depthwise_row(const DepthwiseRow& r) {
  for (std::int64_t c = 0; c < r.c; c += kWidth) {
    const int n = r.c - c < kWidth ? (int)(r.c - c) : kWidth;
    std::int64_t p = 0;
    for (; p + kPixels <= r.pixels; p += kPixels) row_tile<kPixels>(r, p, c, n);
    for (; p < r.pixels; ++p) row_tile<1>(r, p, c, n);
  }
}

void depthwise_outer(const DepthwiseOuter& o) {
  for (std::int64_t c = 0; c < o.c; c += kWidth) {
    const int n = o.c - c < kWidth ? (int)(o.c - c) : kWidth;
    int t = 0;
    for (; t + kTaps <= o.taps; t += kTaps) outer_tile<kTaps>(o, t, c, n);
    for (; t + 3 <= o.taps; t += 3) outer_tile<3>(o, t, c, n);
    for (; t < o.taps; ++t) outer_tile<1>(o, t, c, n);
  }
}

}  // namespace FASTCNN_ISA
}  // namespace fastcnn

// Depthwise convolution: lanes along channels. Every multiplication needs its own load, so the tiles only
// have to hide the latency of the sums.
#include "kernels/conv.h"
#include "kernels/generic/lanes.h"

namespace fastcnn::FASTCNN_ISA {
namespace {

constexpr int kPixels = 6;
constexpr int kTaps = kAccumulators < 9 ? kAccumulators - 2 : 9;

template <int NP, class N>
FASTCNN_INLINE void row_tile(const DepthwiseRow& r, std::int64_t p, std::int64_t c, N n) {
  Vec acc[NP];
  const Vec bias = r.bias ? load_first(r.bias + c, n) : zero();
#pragma GCC unroll 8
  for (int i = 0; i < NP; ++i) acc[i] = bias;
  for (int t = 0; t < r.taps; ++t) {
    const float* in = r.in + p * r.in_pixel + r.offsets[t] + c;
    const Vec w = load(r.w + t * r.w_tap + c);
#pragma GCC unroll 8
    for (int i = 0; i < NP; ++i) acc[i] = fma(load_first(in + i * r.in_pixel, n), w, acc[i]);
  }
#pragma GCC unroll 8
  for (int i = 0; i < NP; ++i) store_first(r.out + (p + i) * r.out_pixel + c, acc[i], n);
}

template <int NT, class N>
FASTCNN_INLINE void outer_tile(const DepthwiseOuter& o, int first, std::int64_t c, N n) {
  Vec acc[NT];
  const float* x[NT];
#pragma GCC unroll 9
  for (int t = 0; t < NT; ++t) acc[t] = zero(), x[t] = o.x + o.offsets[first + t] + c;
  const float* dy = o.dy + c;
  for (std::int64_t p = 0; p < o.pixels; ++p, dy += o.dy_pixel) {
    const Vec d = load_first(dy, n);
#pragma GCC unroll 9
    for (int t = 0; t < NT; ++t) acc[t] = fma(load_first(x[t] + p * o.x_pixel, n), d, acc[t]);
  }
#pragma GCC unroll 9
  for (int t = 0; t < NT; ++t) {
    float* dw = o.dw + (first + t) * o.dw_tap + c;
    store_first(dw, load_first(dw, n) + acc[t], n);
  }
}

}  // namespace

void depthwise_row(const DepthwiseRow& r) {
  for_lanes(r.c, [&](std::int64_t c, auto n) {
    std::int64_t p = 0;
    for (; p + kPixels <= r.pixels; p += kPixels) row_tile<kPixels>(r, p, c, n);
    for (; p < r.pixels; ++p) row_tile<1>(r, p, c, n);
  });
}

void depthwise_outer(const DepthwiseOuter& o) {
  for_lanes(o.c, [&](std::int64_t c, auto n) {
    int t = 0;
    for (; t + kTaps <= o.taps; t += kTaps) outer_tile<kTaps>(o, t, c, n);
    for (; t + 3 <= o.taps; t += 3) outer_tile<3>(o, t, c, n);
    for (; t < o.taps; ++t) outer_tile<1>(o, t, c, n);
  });
}

}  // namespace fastcnn::FASTCNN_ISA

// Direct convolution on NHWC values, one thread. The op cuts the work into rows of pixels and blocks of
// output channels; what a kernel sees of kernel size, stride, dilation and phases is only a list of runs.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/functions.h"

namespace fastcnn {

// Consecutive floats of the input that meet consecutive rows of the packed weights.
struct ConvRun {
  std::ptrdiff_t offset;  // floats from the address of the output pixel's first input
  std::ptrdiff_t length;
};

// A row of output pixels times one block of output channels:
//   out[p][0..oc) (+)= bias + sum over runs r, i of in[p * in_pixel + r.offset + i] * w[i'][0..oc)
struct ConvRow {
  const float* in;
  std::ptrdiff_t in_pixel;  // floats between the inputs of neighbouring outputs
  const ConvRun* runs;
  int n_runs;
  const float* w;  // [sum of lengths][vectors * width], zeros past oc
  float* out;
  std::ptrdiff_t out_pixel;
  const float* bias;  // [oc] or null
  int pixels;
  int vectors, oc;  // oc: 1 .. vectors * width
  bool accumulate;  // add to out
};

// dw[m][oc block] += sum over rows, pixels of x[m] * dy[oc block]
struct ConvOuter {
  const float* x;
  std::ptrdiff_t x_row, x_pixel;
  const float* dy;  // vectors * width floats are read at each pixel
  std::ptrdiff_t dy_row, dy_pixel;
  int rows, pixels;
  int m, vectors;
  float* dw;  // [m][vectors * width]
};

// rows x cols pixels that start at (y0, x0) of an image, zeros where they leave it.
struct ConvPatch {
  const float* image;  // channel 0 of the slice, pixel (0, 0)
  std::ptrdiff_t image_row, image_pixel;
  std::int64_t ih, iw;
  std::int64_t y0, x0;
  std::int64_t rows, cols, c;
  float* out;          // [rows][cols][out_c], zeros past c
  std::int64_t out_c;  // c, or c rounded up to whole vectors
};

// y = f(y + residual), in place; y + residual goes to `kept`.
struct ConvFinish {
  float* y;
  const float* residual;  // or null
  float* kept;            // or null
  std::ptrdiff_t pixel, residual_pixel, kept_pixel;
  std::int64_t pixels, c;
  Function function;
};

struct ConvPool {   // one output row, of `runs` planes
  const float* in;  // first row of the windows
  std::ptrdiff_t in_row, in_pixel;
  std::int64_t kh, kw, sw, cols, c;
  float* out;
  std::ptrdiff_t out_pixel;
  bool average;
  std::int64_t runs = 1;
  std::ptrdiff_t in_run = 0, out_run = 0;
};

// One block of packed weights [taps][ic][vectors * width] and its place in w. Backward data packs with the
// channels' roles exchanged: oc are the lanes, ic the reduction.
struct ConvWeights {
  std::ptrdiff_t oc_stride, ic_stride;  // floats between channels in w; taps are neighbours
  std::ptrdiff_t packed_tap;            // floats between taps in the block
  const int* taps;                      // per packed tap: its index in w
  int n_taps, ic, oc, vectors;
};

// Depthwise: a row of pixels times channels, each channel with its own taps.
//   out[p][i] = bias[i] + sum over taps t of in[p * in_pixel + offsets[t] + i] * w[t * w_tap + i]
struct DepthwiseRow {
  const float* in;
  std::ptrdiff_t in_pixel;
  const std::ptrdiff_t* offsets;
  int taps;
  const float* w;  // [taps][channels padded to whole vectors]
  std::ptrdiff_t w_tap;
  float* out;
  std::ptrdiff_t out_pixel;
  const float* bias;  // or null
  std::int64_t pixels, c;
};

//   dw[t * dw_tap + i] += sum over pixels of x[p * x_pixel + offsets[t] + i] * dy[p * dy_pixel + i]
struct DepthwiseOuter {
  const float* x;
  std::ptrdiff_t x_pixel;
  const std::ptrdiff_t* offsets;
  int taps;
  const float* dy;
  std::ptrdiff_t dy_pixel;
  float* dw;
  std::ptrdiff_t dw_tap;
  std::int64_t pixels, c;
};

struct ConvKernels {
  // Output pixels per register tile, by vectors of output channels: 1, 2, and 4 where there are registers for
  // it (else 0).
  int tile[5];
  void (*row)(const ConvRow&);
  void (*outer)(const ConvOuter&);
  void (*patch)(const ConvPatch&);
  void (*finish)(const ConvFinish&);
  // Per channel sums of y - shift and of its square; `first` sets shift to the first pixel and clears the
  // sums.
  void (*moments)(const float* y, std::ptrdiff_t pixel, std::int64_t pixels, std::int64_t c, bool first,
                  float* shift, float* sum, float* square);
  void (*pool)(const ConvPool&);
  // sums[c] += sum over pixels
  void (*channel_sums)(const float* y, std::ptrdiff_t pixel, std::int64_t pixels, std::int64_t c,
                       float* sums);
  void (*pack_weights)(const ConvWeights& s, const float* w, float* packed);
  // w = sum over `groups` packed accumulators, `group_stride` floats apart, in order.
  void (*unpack_weights)(const ConvWeights& s, const float* packed, std::ptrdiff_t group_stride, int groups,
                         float* w);
  void (*depthwise_row)(const DepthwiseRow&);
  void (*depthwise_outer)(const DepthwiseOuter&);
};

}  // namespace fastcnn

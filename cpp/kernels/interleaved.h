// Convolutions on one block of batch-interleaved images: x [ic][ih][iw][B], B = the vector width, each lane
// one image. Every lane works whatever the channel count, weights are read in their own order and broadcast,
// and nothing is packed, padded or copied. One thread; one group of channels per call.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/activation_kind.h"

namespace fastcnn {

// A tap of one input channel: where its factors lie, relative to the first tap's.
struct IlTap {
  std::int32_t x, w;    // floats
  std::int32_t column;  // columns of x
};

// y[o][i][j] = start[o] + sum over c, r, q of
//   w[o * w_o + c * w_c + r * w_r + q * w_q]
//   * x[c][row0 + i * row_step + r * tap_row][col0 + j * col_step + q * tap_col]
// with taps outside x left out. Forward: the steps are the strides; backward data: one such sum per phase of
// the stride, with negative tap steps.
struct IlConv {
  std::int64_t sum = 0, out = 0;                 // channels summed over, channels computed
  std::int64_t in_h = 0, in_w = 0;               // x [sum][in_h][in_w][B]
  std::int64_t rows = 0, cols = 0;               // pixels computed
  std::ptrdiff_t y_c = 0, y_row = 0, y_col = 0;  // floats between channels, rows, columns of y
  std::int64_t row0 = 0, row_step = 1, tap_row = 1;
  std::int64_t col0 = 0, col_step = 1, tap_col = 1;
  std::int64_t kh = 0, kw = 0;                        // taps
  std::ptrdiff_t w_o = 0, w_c = 0, w_r = 0, w_q = 0;  // floats between weights

  // Set by plan(): runs of columns and their register tiles. In the middle one every tap lies inside x.
  struct Section {
    std::int64_t begin, end;
    int channels, pixels;
  } sections[3] = {};
  // The caller's: [kh][sum][kw], written by fill_taps(). Tap rows that lie inside x are one run of it.
  const IlTap* taps = nullptr;
};

// An output pixel of a strip: where dy and the x of its first tap lie, relative to the strip's first pixel.
struct IlPixel {
  std::int32_t x, dy;   // floats
  std::int32_t column;  // columns of x
};

// dw[o][c][r][q] += sum over pixels and images of dy[o][i][j] x[c][i * sh - pt + r * dh][j * sw - pl + q *
// dw].
struct IlWeights {
  std::int64_t ic = 0, ih = 0, iw = 0, oc = 0, oh = 0, ow = 0;  // of one group
  std::int64_t kh = 0, kw = 0, sh = 1, sw = 1, pt = 0, pl = 0, dh = 1, dw = 1;

  // Set by plan_weights(): register tile of channels x taps (or channels x input channels), rows of dy at a
  // time.
  bool by_taps = true;
  int channels = 1, columns = 1;
  std::int64_t strip = 1;
  std::int64_t work = 0;    // floats of scratch
  std::int64_t pixels = 0;  // entries of the table below
  // The caller's, written by fill_pixels(): for each run of taps the pixels of a strip at which all lie
  // inside x, row by row, then those at which only some do.
  const IlPixel* table = nullptr;
};

struct IlPool {
  bool max = false;
  std::int64_t kh = 1, kw = 1, sw = 1;
  std::int64_t in_w = 0, out_w = 0;
};

struct InterleavedKernels {
  void (*plan)(IlConv* c);
  void (*fill_taps)(const IlConv& c, IlTap* taps);
  // Rows [first, last). start: [out] or null for zeros.
  void (*conv_rows)(const IlConv& c, const float* x, const float* w, const float* start, float* y,
                    std::int64_t first, std::int64_t last);
  void (*plan_weights)(IlWeights* c);
  void (*fill_pixels)(const IlWeights& c, IlPixel* table);
  // Adds to dw [oc][ic][kh][kw] and db [oc] (each may be null); lanes from `valid` on do not count.
  void (*conv_weights)(const IlWeights& c, const float* x, const float* dy, int valid, float* work, float* dw,
                       float* db);
  // y = act(y + residual), in place; residual may be null. n: a multiple of B.
  void (*finish)(float* y, const float* residual, std::int64_t n, Act act);
  // One output row of one channel from the kh rows at x [..][in_w][B]; whole windows only.
  void (*pool_row)(const IlPool& p, const float* x, float* y);
};

}  // namespace fastcnn

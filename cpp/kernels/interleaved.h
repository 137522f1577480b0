// Convolutions on one block of batch-interleaved images: x [ic][id][ih][iw][B], B = the vector width, each
// lane one image. Every lane works whatever the channel count, weights are read in their own order and
// broadcast, and nothing is packed, padded or copied. One thread; one group of channels per call.
#pragma once

#include <cstddef>
#include <cstdint>

namespace fastcnn {

// One dimension of a convolution: output i meets x at first + i * step + t * tap_step for taps t, as far as
// that lies inside x.
struct IlAxis {
  std::int64_t in = 1, out = 1;  // positions of x, of y
  std::int64_t first = 0, step = 1;
  std::int64_t taps = 1, tap_step = 1;
  std::ptrdiff_t y = 0, w = 0;  // IlConv: floats between neighbouring outputs, weights
};

// A tap of one input channel: where its factors lie, relative to the first tap's.
struct IlTap {
  std::int32_t x, w;    // floats
  std::int32_t column;  // columns of x
};

// y[o][i] = start[o] + sum over input channels c and taps t of w[o][c][t] x[c][i, t], axis by axis. Forward:
// the steps are the strides; backward data: one such sum per phase of the stride, with negative tap steps.
struct IlConv {
  std::int64_t sum = 0, out = 0;             // channels summed over, channels computed
  IlAxis axis[3];                            // depth, height, width
  std::ptrdiff_t y_c = 0, w_o = 0, w_c = 0;  // floats between channels

  // Set by plan(): runs of columns and their register tiles. In the middle one every tap lies inside x.
  struct Section {
    std::int64_t begin, end;
    int channels, pixels;
  } sections[3] = {};
  // The caller's memory: [kd][kh][sum][kw]. Tap rows of a plane that lie inside x are one run of it.
  const IlTap* taps = nullptr;
};

// An output pixel of a strip: where dy and the x of its first tap lie, relative to the strip's first pixel.
struct IlPixel {
  std::int32_t x, dy;   // floats
  std::int32_t column;  // columns of x
};

// dw[o][c][t] += sum over pixels i and images of dy[o][i] x[c][i, t].
struct IlWeights {
  std::int64_t ic = 0, oc = 0;  // of one group
  IlAxis axis[3];

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

struct InterleavedKernels {
  void (*plan)(IlConv* c, IlTap* taps);
  // Rows [first, last), counted through all planes. start: [out] or null for zeros.
  void (*conv_rows)(const IlConv& c, const float* x, const float* w, const float* start, float* y,
                    std::int64_t first, std::int64_t last);
  void (*plan_weights)(IlWeights* c);
  void (*fill_pixels)(const IlWeights& c, IlPixel* table);
  // Adds to dw [oc][ic][taps] and db [oc] (each may be null); lanes from `valid` on do not count.
  void (*conv_weights)(const IlWeights& c, const float* x, const float* dy, int valid, float* work, float* dw,
                       float* db);
};

}  // namespace fastcnn

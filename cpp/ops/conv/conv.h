// What the implementations of conv{1,2,3}d and their two backward ops share: the parsed problem and the
// lists that conv.cpp joins, most special first.
#pragma once

#include <string>
#include <vector>

#include "ops/checks.h"
#include "ops/op.h"

namespace fastcnn::ops {

enum class ConvDirection { kForward, kBackwardData, kBackwardWeights };

// One convolution, by its forward names whichever direction is computed. Arrays are (depth, height, width);
// dimensions that the op lacks come first and are 1, their padding 0. Checked: every output pixel lies inside
// the padded input, and no product below overflows.
struct ConvParams : Facts {
  int rank = 2;                        // spatial dimensions of the op
  std::int64_t n = 0, ic = 0, oc = 0;  // x [n, ic, in], y [n, oc, out], w [oc, ic / groups, kernel]
  std::int64_t in[3] = {1, 1, 1}, out[3] = {1, 1, 1};
  std::int64_t kernel[3] = {1, 1, 1}, stride[3] = {1, 1, 1};
  std::int64_t before[3] = {0, 0, 0}, after[3] = {0, 0, 0};  // padding
  std::int64_t dilation[3] = {1, 1, 1};                      // distance between taps: 1 is dense
  std::int64_t groups = 1;

  std::int64_t in_pixels() const { return in[0] * in[1] * in[2]; }
  std::int64_t out_pixels() const { return out[0] * out[1] * out[2]; }
  std::int64_t taps() const { return kernel[0] * kernel[1] * kernel[2]; }
  std::int64_t gic() const { return ic / groups; }
  std::int64_t goc() const { return oc / groups; }
  bool depthwise() const { return groups == ic && groups == oc; }
  double macs() const;       // multiply-adds of any direction, taps in the padding included
  std::string text() const;  // "8x32x28x28 -> 64, kernel 3x3 stride 1x1 ...": for refusals
};

// A tap along one dimension: the position it reads for the first output of a phase, its index in the kernel.
struct AxisTap {
  std::int64_t at, index;
};
// Forward: y[r] = sum over k of x[r stride + k dilation - before] w[k], one phase. Transposed: dx[r] = sum
// over k with (r + before - k dilation) divisible by the stride of dy[(r + before - k dilation) / stride]
// w[k], where outputs r of one phase (r mod stride) use the same taps. In the order of k.
std::vector<AxisTap> taps_along(const ConvParams& p, int d, bool transposed, std::int64_t phase);

template <class T, bool kTransposed>
std::unique_ptr<Prepared> prepare_conv(const Problem& p) {
  return std::make_unique<T>(p, kTransposed);
}

// The implementations by direction and file, of all ranks.
extern const Impl kConvDepthwise[3];    // depthwise.cpp: NHWC, one channel per group
extern const Impl kConvWinograd[3];     // winograd*.cpp: NHWC, 3x3 with stride 1
extern const Impl kConvDirect[3];       // direct*.cpp: NHWC implicit GEMM, takes anything
extern const Impl kConvInterleaved[3];  // interleaved.cpp: batch-interleaved values

}  // namespace fastcnn::ops

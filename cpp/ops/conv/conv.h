// What the implementations of conv2d, conv2d_backward_data and conv2d_backward_weights share: the parsed
// problem, where its operands stand, and the lists that conv.cpp joins, most special first.
#pragma once

#include <string>
#include <vector>

#include "ops/op.h"

namespace fastcnn::ops {

// One convolution, by its forward names whichever direction is computed. Checked: every output pixel lies
// inside the padded input, and no product below overflows.
struct ConvParams {
  std::int64_t n = 0;
  std::int64_t ic = 0, ih = 0, iw = 0;  // x  [n, ic, ih, iw]
  std::int64_t oc = 0, oh = 0, ow = 0;  // y  [n, oc, oh, ow]
  std::int64_t kh = 1, kw = 1;          // w  [oc, ic / groups, kh, kw]
  std::int64_t sh = 1, sw = 1;
  std::int64_t pt = 0, pl = 0, pb = 0, pr = 0;
  std::int64_t dh = 1, dw = 1;  // distance between taps: 1 is dense
  std::int64_t groups = 1;

  std::int64_t gic() const { return ic / groups; }
  std::int64_t goc() const { return oc / groups; }
  bool depthwise() const { return groups == ic && groups == oc; }
  double macs() const;       // multiply-adds of any direction, taps in the padding included
  std::string text() const;  // "8x32x28x28 -> 64, 3x3 stride 1 padding 1": for refusals
};

// Throw ValueError / TypeError with shapes when the operands do not fit together.
ConvParams conv_forward_params(const Attrs& attrs, const std::vector<TensorDesc>& in);           // x, w, b?
ConvParams conv_backward_data_params(const Attrs& attrs, const std::vector<TensorDesc>& in);     // dy, w
ConvParams conv_backward_weights_params(const Attrs& attrs, const std::vector<TensorDesc>& in);  // x, dy

// Where the operands of a (fused) conv2d or conv2d_backward_data problem stand in RunArgs; -1: not there.
struct ConvOperands {
  int bias = -1;
  int running_mean = -1, running_var = -1, residual = -1;  // inputs
  int mean = -1, rstd = -1, unpooled = -1;                 // outputs
};
ConvOperands conv_operands(const Problem& p);

enum class ConvDirection { kForward, kBackwardData, kBackwardWeights };

// The implementations of one direction, by file.
std::vector<Impl> conv2d_depthwise(ConvDirection d);    // depthwise.cpp: NHWC, one channel per group
std::vector<Impl> conv2d_winograd(ConvDirection d);     // winograd*.cpp: NHWC, 3x3 with stride 1
std::vector<Impl> conv2d_direct(ConvDirection d);       // direct*.cpp: NHWC implicit GEMM, takes anything
std::vector<Impl> conv2d_interleaved(ConvDirection d);  // interleaved.cpp: batch-interleaved values

}  // namespace fastcnn::ops

// What the implementations of linear, linear_backward_data and linear_backward_weights share.
#pragma once

#include <string>
#include <vector>

#include "ops/op.h"

namespace fastcnn::ops {

struct LinearParams {
  std::int64_t n = 0, in = 0, out = 0;  // x [n, in], w [out, in], y [n, out]
  double macs() const;
};

// Throw ValueError / TypeError with shapes when the operands do not fit together.
LinearParams linear_forward_params(const std::vector<TensorDesc>& in);           // x, w, b?
LinearParams linear_backward_data_params(const std::vector<TensorDesc>& in);     // dy, w
LinearParams linear_backward_weights_params(const std::vector<TensorDesc>& in);  // x, dy

enum class LinearDirection { kForward, kBackwardData, kBackwardWeights };

// The implementations of one direction, by file, most special first.
std::vector<Impl> linear_plain(LinearDirection d);        // plain.cpp: rows of images
std::vector<Impl> linear_interleaved(LinearDirection d);  // interleaved.cpp: batch-interleaved values

}  // namespace fastcnn::ops

// What the implementations of linear, linear_backward_data and linear_backward_weights share.
#pragma once

#include <vector>

#include "kernels/linear.h"
#include "kernels/pointwise.h"
#include "ops/op.h"

namespace fastcnn::ops {

struct LinearParams : Facts {
  std::int64_t n = 0, in = 0, out = 0;  // x [n, in], w [out, in], y [n, out]
};

// Elements from one image's row to the next, or (kInterleaved) from block to block.
inline std::int64_t step_of(const TensorDesc& d) { return geometry_of(d).image; }

enum class LinearDirection { kForward, kBackwardData, kBackwardWeights };

// The implementations by direction and file.
extern const Impl kLinearInterleaved[3];  // interleaved.cpp: batch-interleaved values
extern const Impl kLinearRows[3];         // plain.cpp: rows of images
extern const Impl kLinearPanels;          // plain.cpp, forward only

}  // namespace fastcnn::ops

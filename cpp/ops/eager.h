// One op on plain (NCHW) tensors, at once: what fastcnn.functional calls. Values are brought into the layout
// the implementation wants and back.
#pragma once

#include "core/tensor.h"
#include "ops/op.h"

namespace fastcnn::ops {

// inputs: absent ones have no storage. layout: "auto" (the plain layout where an implementation takes it,
// then NHWC, then interleaved), "nchw", "nhwc" or "interleaved".
std::vector<Tensor> run_eager(const std::string& op, const std::vector<Tensor>& inputs, const Attrs& attrs,
                              const std::string& layout);

}  // namespace fastcnn::ops

// One op on tensors at once, without a plan: how functional calls reach an op.
#pragma once

#include <string>
#include <vector>

#include "core/tensor.h"
#include "ops/op.h"

namespace fastcnn::graph {

// Shapes are logical (NCHW); undefined tensors are absent inputs. layout: "nchw", "nhwc" or "interleaved"
// runs the op in that layout, converting in and out; "auto" takes the first of these that an implementation
// takes. implementation: the one to force, or empty. Inputs that the op updates are changed in place. Errors
// begin with the op's name.
std::vector<Tensor> run_eager(const std::string& op, const std::vector<Tensor>& inputs,
                              const ops::Attrs& attrs, const std::string& layout,
                              const std::string& implementation);

}  // namespace fastcnn::graph

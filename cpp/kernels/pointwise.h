#pragma once

#include <cstddef>
#include <cstdint>

namespace fastcnn {

struct PointwiseKernels {};

}  // namespace fastcnn

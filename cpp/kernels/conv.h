#pragma once

#include <cstddef>
#include <cstdint>

namespace fastcnn {

struct ConvKernels {};

}  // namespace fastcnn

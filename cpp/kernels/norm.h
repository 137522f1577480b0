#pragma once

#include <cstddef>
#include <cstdint>

namespace fastcnn {

struct NormKernels {};

}  // namespace fastcnn

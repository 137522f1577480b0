#pragma once

#include <cstddef>
#include <cstdint>

namespace fastcnn {

struct LinearKernels {};

}  // namespace fastcnn

#pragma once

#include <cstddef>
#include <cstdint>

namespace fastcnn {

struct LayoutKernels {};

}  // namespace fastcnn

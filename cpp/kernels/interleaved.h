#pragma once

#include <cstddef>
#include <cstdint>

namespace fastcnn {

struct InterleavedKernels {};

}  // namespace fastcnn

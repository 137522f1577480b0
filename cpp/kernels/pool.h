#pragma once

#include <cstddef>
#include <cstdint>

namespace fastcnn {

struct PoolKernels {};

}  // namespace fastcnn

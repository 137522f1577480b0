#pragma once

#include <cstddef>
#include <cstdint>

namespace fastcnn {

struct WinogradKernels {};

}  // namespace fastcnn

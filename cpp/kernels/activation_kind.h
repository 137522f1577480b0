// The activations a kernel can apply on its way out (or undo on its way in). The values are
// ops::Activation's.
#pragma once

#include <cstdint>

namespace fastcnn {

enum class Act : std::uint8_t { kNone, kRelu, kTanh, kSigmoid };

}  // namespace fastcnn

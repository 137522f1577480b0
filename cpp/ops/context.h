// What a plan was made for and takes along: nothing below the graph asks for a global.
#pragma once

#include <cstdint>

#include "kernels/table.h"

namespace fastcnn::ops {

enum class Device : std::uint8_t { kCpu };

struct Context {
  Device device = Device::kCpu;
  const KernelTable* kernels = nullptr;
  int threads = 1;
};

// The table and the thread count in use now.
Context current_context();

}  // namespace fastcnn::ops

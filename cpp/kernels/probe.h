// A loop that does nothing but multiply-adds: what "share of the peak" is measured against.
#pragma once

#include <cstdint>

namespace fastcnn {

struct ProbeKernels {
  // Runs `rounds` rounds over all accumulators and returns something that depends on every one of them.
  float (*multiply_add)(std::int64_t rounds);
  std::int64_t flops_per_round;
};

}  // namespace fastcnn

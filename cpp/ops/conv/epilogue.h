// What a fused convolution does with finished outputs besides writing them.
#pragma once

#include <vector>

#include "ops/conv/conv.h"

namespace fastcnn::ops {

// Batch-norm statistics from the parts that the items of a convolution leave behind: per part and channel a
// shift, the sum of y - shift and of its square, in [part][3][channels]. Which outputs make a part is fixed
// by the problem, and parts are merged in order and in double (Chan, Golub & LeVeque 1979), so threads leave
// no trace.
class PartialMoments {
 public:
  PartialMoments() = default;
  PartialMoments(std::vector<std::int64_t> pixels_of_part, std::int64_t channels, const Fusion& f)
      : pixels_(std::move(pixels_of_part)), channels_(channels), momentum_(f.momentum), eps_(f.eps) {}

  std::size_t bytes() const {
    return pixels_.size() * static_cast<std::size_t>(channels_) * 3 * sizeof(float);
  }
  float* part(float* parts, std::int64_t i) const { return parts + i * 3 * channels_; }
  std::int64_t channels() const { return channels_; }
  // Writes mean and 1 / sqrt(variance + eps) and moves the running statistics.
  void merge(const float* parts, const RunArgs& a, const ConvOperands& o) const;

 private:
  std::vector<std::int64_t> pixels_;
  std::int64_t channels_ = 0;
  double momentum_ = 0, eps_ = 0;
};

}  // namespace fastcnn::ops

// Channels-last values as the norm kernels see them: a flat run of floats, cut into periods, items and
// groups.
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>

#include "kernels/table.h"
#include "ops/batchnorm.h"
#include "ops/block.h"

namespace fastcnn::ops {

constexpr std::int64_t kStreamBytes = std::int64_t{1} << 62;  // set by measurement

struct Pattern {
  std::int64_t c = 1;       // channels
  std::int64_t period = 1;  // vectors
  std::int64_t floats = 0;  // of the whole value

  Pattern(std::int64_t channels, std::int64_t total)
      : c(channels), period(channels / std::gcd(channels, std::int64_t{kernels().width})), floats(total) {}
  std::int64_t row() const { return period * kernels().width; }  // floats per period
  std::int64_t rows() const { return floats / row(); }  // whole periods; the rest is shorter than one
  // Elementwise passes: items of about 64 KB, whole periods each.
  std::int64_t item() const { return std::max<std::int64_t>(1, 16384 / row()) * row(); }
  std::int64_t items() const { return (floats + item() - 1) / item(); }
  // Sums: at most kMaxGroups runs of rows, 32 or more each where there are that many.
  std::int64_t groups() const { return std::clamp<std::int64_t>(rows() / 32, 1, kMaxGroups); }
  std::int64_t group_begin(std::int64_t g) const { return rows() * g / groups(); }
  bool streams() const { return floats * 4 >= kStreamBytes; }

  // v[channel of position j] at pattern position j
  template <class F>
  void expand(float* to, F&& v) const {
    for (std::int64_t j = 0; j < row(); ++j) to[j] = j < c ? static_cast<float>(v(j)) : to[j - c];
  }
  std::size_t pattern_bytes() const { return static_cast<std::size_t>(row()) * sizeof(float); }
};

}  // namespace fastcnn::ops

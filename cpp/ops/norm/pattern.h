// Channels-last values as the norm kernels see them: a flat run of floats, cut into periods, items and
// groups.
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>

#include "kernels/table.h"
#include "ops/block.h"
#include "ops/norm/batchnorm.h"

namespace fastcnn::ops {

// From here on results are stored past the cache. Measured together with the pass that reads them next, that
// gains 15 % or more at 8 MB and above, nothing at 4 MB, and loses where the value would have stayed in
// cache.
constexpr std::int64_t kStreamBytes = std::int64_t{8} << 20;

// A float sum over more rows than this would lose digits that the gradients of gamma and beta show.
constexpr std::int64_t kGroupRows = 256;

struct Pattern {
  std::int64_t c = 1;       // channels
  std::int64_t period = 1;  // vectors
  std::int64_t floats = 0;  // of the whole value
  std::int64_t row = 1;     // floats per period
  std::int64_t rows = 0;    // whole periods; the rest is shorter than one
  std::int64_t groups = 1;  // of sums: runs of rows, summed in float and joined in double

  Pattern(std::int64_t channels, std::int64_t total)
      : c(channels),
        period(channels / std::gcd(channels, std::int64_t{kernels().width})),
        floats(total),
        row(period * kernels().width),
        rows(total / row),
        groups(std::max(std::clamp<std::int64_t>(rows / 32, 1, 32), rows / kGroupRows)) {}
  std::int64_t group_begin(std::int64_t g) const { return rows * g / groups; }
  std::int64_t group_rows(std::int64_t g) const { return group_begin(g + 1) - group_begin(g); }
  // Elementwise passes: items of about 64 KB, whole periods each.
  std::int64_t item() const { return std::max<std::int64_t>(1, 16384 / row) * row; }
  std::int64_t items() const { return (floats + item() - 1) / item(); }
  bool streams() const { return floats * 4 >= kStreamBytes; }

  // v[channel of position j] at pattern position j
  template <class F>
  void expand(float* to, F&& v) const {
    for (std::int64_t j = 0; j < row; ++j) to[j] = j < c ? static_cast<float>(v(j)) : to[j - c];
  }
  // f(group, position) for the positions of channel `first` and the ones that are its neighbours' in every
  // group: the next channels' positions follow each.
  template <class F>
  void each_position(std::int64_t first, F&& f) const {
    for (std::int64_t g = 0; g < groups; ++g)
      for (std::int64_t j = first; j < row; j += c) f(g, j);
  }
  std::size_t pattern_bytes() const { return static_cast<std::size_t>(row) * sizeof(float); }
};

// Channels joined in one go, in double: the loop over them is the inner one.
constexpr std::int64_t kJoined = 64;

}  // namespace fastcnn::ops

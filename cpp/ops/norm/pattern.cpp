#include "ops/norm/pattern.h"

#include <numeric>

namespace fastcnn::ops {
namespace {

// From here on results are stored past the cache. Measured together with the pass that reads them next, that
// gains 15 % or more at 8 MB and above, nothing at 4 MB, and loses where the value would have stayed in
// cache.
constexpr std::int64_t kStreamBytes = std::int64_t{8} << 20;

// A float sum over more rows than this would lose digits that the gradients of gamma and beta show.
constexpr std::int64_t kGroupRows = 256;
// Sums of fewer rows than that are cut into groups of so many, for so many threads.
constexpr std::int64_t kFewRows = 32, kFewGroups = 32;

std::int64_t groups_for(std::int64_t rows, std::int64_t row) {
  const std::int64_t groups =
      std::max(std::clamp<std::int64_t>(rows / kFewRows, 1, kFewGroups), rows / kGroupRows);
  return std::clamp<std::int64_t>(kPartialBytes / (2 * row * 4), 1, groups);
}

}  // namespace

Pattern::Pattern(const Problem& p)
    : interleaved_(layout_of(p) == Layout::kInterleaved), width_(p.kernels().width) {
  const Geometry g = geometry_of(p.inputs[0]);
  n_ = g.n, c_ = g.c, pixels_ = g.pixels();
  const bool dense = unless_dense(p).empty();
  flat_ = interleaved_ || dense;
  if (interleaved_) {
    planes_ = ceil_div(n_, width_) * c_, rows_ = pixels_;
    period_ = 1, row_ = row_values_ = width_;
    together_ = std::max<std::int64_t>(1, kFlatItem / (rows_ * row_));
  } else {
    const std::int64_t floats = values() * c_;
    planes_ = floats > 0;
    period_ = dense ? c_ / std::gcd(c_, width_) : ceil_div(c_, width_);
    row_ = period_ * width_;
    row_values_ = dense ? row_ : c_;
    rows_ = floats / row_values_;
    rest_ = floats % row_values_;
    groups_ = groups_for(rows_, row_);
    pieces_ = std::max<std::int64_t>(1, ceil_div(rows_, std::max<std::int64_t>(1, kFlatItem / row_)));
    streams_ = dense && floats * 4 >= kStreamBytes;
  }
  for (const TensorDesc& d : p.inputs) in_.push_back(steps_of(d));
  for (const TensorDesc& d : p.outputs) out_.push_back(steps_of(d));
}

Pattern::Steps Pattern::steps_of(const TensorDesc& d) const {
  if (d.absent || d.shape.rank() < 2) return {};
  const Geometry g = geometry_of(d);
  if (interleaved_) return {g.image, g.channel, row_};
  return {0, 0, flat_ ? row_ : g.image / pixels_};
}

}  // namespace fastcnn::ops

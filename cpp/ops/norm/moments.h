// The last step of batch-norm statistics: moments of parts of the batch are merged, in a fixed order and in
// double, and a channel's results are written. batch_norm_stats and the convolutions that end with statistics
// use it; which values make a part is theirs, fixed by the problem, so threads leave no trace.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace fastcnn::ops {

// Any pointer may be null.
struct StatisticsOut {
  float *mean, *rstd;     // [channels]; rstd = 1 / sqrt(variance + eps), of the biased variance
  double* moments;        // [2][channels]: mean, sum of squared differences from it
  std::int64_t channels;  // of all
  double eps;
};

// Channels joined in one go: a stage that joins has ceil_div(channels, kJoined) items.
constexpr std::int64_t kJoined = 16;

// Moments of at most kJoined neighbouring channels (Chan, Golub & LeVeque 1979).
class JoinedMoments {
 public:
  explicit JoinedMoments(std::int64_t channels) : channels_(std::min(channels, kJoined)) {}

  // For parts that can be walked twice: given the means of all of them first, add() does not move them, and
  // they are rounded once.
  template <class Mean>
  void add_mean(std::int64_t values, Mean&& mean_of) {
    known_ += static_cast<double>(values);
    for (std::int64_t k = 0; k < channels_; ++k) mean_[k] += static_cast<double>(values) * mean_of(k);
  }
  void end_means() {
    for (std::int64_t k = 0; k < channels_; ++k) mean_[k] /= known_;
  }
  // The next part: `values` (at least 1) per channel, mean_of(k) and m2_of(k) of channel k.
  template <class Mean, class M2>
  void add(std::int64_t values, Mean&& mean_of, M2&& m2_of) {
    const auto n = static_cast<double>(values);
    const double total = count_ + n, share = known_ > 0 ? 0 : n / total;
    const double cross = known_ > 0 ? n : count_ * share;
    for (std::int64_t k = 0; k < channels_; ++k) {
      const double delta = mean_of(k) - mean_[k];
      if (share > 0) mean_[k] += delta * share;
      m2_[k] += m2_of(k) + delta * delta * cross;
    }
    count_ = total;
  }
  // The part's moments as a shift, the sum of y - shift and the sum of its square, per channel.
  void add_shifted(std::int64_t values, const float* shift, const float* sum, const float* square) {
    const double per = 1 / static_cast<double>(values);
    add(
        values, [&](std::int64_t k) { return shift[k] + sum[k] * per; },
        [&](std::int64_t k) { return square[k] - double{sum[k]} * sum[k] * per; });
  }
  // The first of these channels is `first` of all.
  void write(std::int64_t first, const StatisticsOut& out) const {
    for (std::int64_t k = 0, c = first; k < channels_; ++k, ++c) {
      // Rounding can take a constant channel's m2 below 0; NaN stays.
      const double m2 = m2_[k] < 0 ? 0 : m2_[k];
      if (out.mean) out.mean[c] = static_cast<float>(mean_[k]);
      if (out.rstd) out.rstd[c] = static_cast<float>(1 / std::sqrt((count_ > 0 ? m2 / count_ : 0) + out.eps));
      if (out.moments) out.moments[c] = mean_[k], out.moments[out.channels + c] = m2;
    }
  }

 private:
  std::int64_t channels_;
  double known_ = 0, count_ = 0, mean_[kJoined] = {}, m2_[kJoined] = {};
};

}  // namespace fastcnn::ops

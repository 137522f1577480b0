#include "ops/conv/epilogue.h"

#include <algorithm>

#include "core/parallel.h"
#include "ops/norm/batchnorm.h"

namespace fastcnn::ops {

void PartialMoments::merge(const float* parts, const RunArgs& a, const ConvOperands& o) const {
  constexpr std::int64_t kBlock = 16;
  const auto running = [&](int i) { return static_cast<float*>(const_cast<void*>(a.in[i])); };
  const StatisticsOut out = {static_cast<float*>(a.out[o.mean]),
                             static_cast<float*>(a.out[o.rstd]),
                             running(o.running_mean),
                             running(o.running_var),
                             momentum_,
                             eps_};
  parallel_for((channels_ + kBlock - 1) / kBlock, [&](std::int64_t block, int) {
    const std::int64_t c0 = block * kBlock, n = std::min(kBlock, channels_ - c0);
    double m[kBlock] = {}, m2[kBlock] = {}, count = 0;
    for (std::size_t p = 0; p < pixels_.size(); ++p) {
      const float* shift = parts + static_cast<std::int64_t>(p) * 3 * channels_ + c0;
      const float *sum = shift + channels_, *square = sum + channels_;
      const double k = static_cast<double>(pixels_[p]), total = count + k;
      const double per = 1 / k, share = k / total, cross = count * share;
      for (std::int64_t c = 0; c < n; ++c) {
        const double s = sum[c], delta = shift[c] + s * per - m[c];
        m[c] += delta * share;
        m2[c] += square[c] - s * s * per + delta * delta * cross;
      }
      count = total;
    }
    // Rounding can take a constant channel's m2 below 0; NaN stays.
    for (std::int64_t c = 0; c < n; ++c) out.write(c0 + c, count, m[c], m2[c] < 0 ? 0 : m2[c]);
  });
}

}  // namespace fastcnn::ops

#include "ops/conv2d_epilogue.h"

#include <algorithm>
#include <cmath>

#include "core/parallel.h"

namespace fastcnn::ops {

void PartialMoments::merge(const float* parts, float* mean, float* rstd, float* running_mean,
                           float* running_var) const {
  constexpr std::int64_t kBlock = 16;
  parallel_for((channels_ + kBlock - 1) / kBlock, [&](std::int64_t block, int) {
    const std::int64_t c0 = block * kBlock, n = std::min(kBlock, channels_ - c0);
    double m[kBlock] = {}, m2[kBlock] = {}, count = 0;
    for (std::size_t p = 0; p < pixels_.size(); ++p) {
      const float* shift = parts + (static_cast<std::int64_t>(p) * 3) * channels_ + c0;
      const float *sum = shift + channels_, *square = sum + channels_;
      const double k = static_cast<double>(pixels_[p]), total = count + k;
      if (k == 0) continue;
      const double per = 1 / k, share = k / total, cross = count * share;
      for (std::int64_t c = 0; c < n; ++c) {
        const double s = sum[c], delta = shift[c] + s * per - m[c];
        m[c] += delta * share;
        m2[c] += square[c] - s * s * per + delta * delta * cross;
      }
      count = total;
    }
    for (std::int64_t c = 0; c < n; ++c) {
      const double variance =
          m2[c] < 0 || count == 0 ? 0 : m2[c] / count;  // rounding can go below 0; NaN stays
      const double unbiased = count > 1 ? variance * count / (count - 1) : variance;
      mean[c0 + c] = static_cast<float>(m[c]);
      rstd[c0 + c] = static_cast<float>(1 / std::sqrt(variance + eps_));
      if (count == 0) continue;
      running_mean[c0 + c] = static_cast<float>((1 - momentum_) * running_mean[c0 + c] + momentum_ * m[c]);
      running_var[c0 + c] = static_cast<float>((1 - momentum_) * running_var[c0 + c] + momentum_ * unbiased);
    }
  });
}

}  // namespace fastcnn::ops

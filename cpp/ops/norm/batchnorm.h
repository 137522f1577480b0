// What the batch-norm ops share, and the last step of the statistics, which a convolution with statistics in
// its epilogue uses too.
#pragma once

#include <cstdint>
#include <vector>

#include "ops/op.h"

namespace fastcnn::ops {

// Mean and reciprocal standard deviation of channel c, and the running buffers' step, from the mean and the
// sum of squared differences over `count` values. The variance that normalises is biased, the one that runs
// is not, as in PyTorch.
struct StatisticsOut {
  float *mean, *rstd, *running_mean, *running_var;  // [channels]; the running ones may be null
  double momentum, eps;

  void write(std::int64_t c, double count, double mean_of_c, double m2) const;
};

// Where a batch-norm problem's own operands end and the fusion's begin.
struct NormFacts {
  std::int64_t n, c, hw;
  std::int64_t count() const { return n * hw; }
};
NormFacts norm_facts(const Shape& x);

std::vector<Impl> batch_norm_stats_list();
std::vector<Impl> batch_norm_apply_list(bool inference);
std::vector<Impl> batch_norm_backward_list(bool inference);

}  // namespace fastcnn::ops

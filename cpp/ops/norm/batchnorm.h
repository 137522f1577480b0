// What the files of the batch-norm ops share.
#pragma once

#include <algorithm>
#include <vector>

#include "ops/checks.h"
#include "ops/op.h"

namespace fastcnn::ops {

struct NormFacts : Facts {
  bool inference = false;  // statistics are constants: the operand beside the mean is a variance, not rstd
  double eps = 0;
};

struct RunningFacts : Facts {
  double momentum = 0;
  std::int64_t count = 0;  // values per channel that the moments are of
};

extern const Impl kBatchNormStats[2], kBatchNormApply[2], kBatchNormBackward[2];
std::unique_ptr<Prepared> prepare_running_statistics(const Problem& p);

}  // namespace fastcnn::ops

// Per-channel normalisation. Values are seen as runs of floats whose channels repeat every `period` vectors:
// dense channels-last values are one run of period lcm(c, kWidth) / kWidth, a plane of a batch-interleaved
// block is one of period 1, and of a slice of channels every pixel is a run of its own. Per-channel numbers
// come expanded to one period ("pattern"), so every channel count runs in full vectors.
//
//   dense, c = 6, kWidth = 4, period 3:   x  [0 1 2 3][4 5 0 1][2 3 4 5][0 1 2 3] ...   (channel of each
//   float) slice, c = 6, kWidth = 4, period 2:   x  [0 1 2 3][4 5] . . . [0 1 2 3][4 5] . . .
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/functions.h"

namespace fastcnn {

// Each run starts at the pattern's first position. More than one run: n is at most a period.
struct NormRuns {
  std::int64_t runs, n;  // n: floats of each
  std::int64_t period;   // vectors
};
// An operand; its pointer may be null where one is optional. step: floats from run to run; of a single run,
// from period to period.
template <class Float>
struct NormOperand {
  Float* at = nullptr;
  std::int64_t step = 0;
};
using NormIn = NormOperand<const float>;
using NormOut = NormOperand<float>;

struct NormApply {  // y = f((x - mean) * scale + shift + residual)
  Function function;
  bool stream;  // past the cache; y aligned to a vector, one run, nothing kept
  NormRuns runs;
  const float *mean, *scale, *shift;  // [period * kWidth]
  NormIn x, residual;                 // residual is optional
  NormOut y, kept;                    // kept: the value before f, optional
};

struct NormGradSums {  // with g = dy f'(v): sums over the values of g and of g * (x - mean), per position
  Function function;
  NormRuns runs;
  const float* mean;      // pattern
  NormIn dy, v, x;        // v only where there is a function
  NormOut masked;         // g is written here, optional
  bool stream;            // masked goes past the cache; aligned to a vector, one run
  std::uint16_t* signs;   // ReLU, nothing masked: per vector, the bits of the lanes with v > 0; optional
  float *sum_g, *sum_gx;  // [period * kWidth], written
};

// dx = g * scale - (x - mean) * slope - offset + add; without slope: dx = g * scale + add
struct NormGradApply {
  Function function;
  bool stream;  // past the cache; dx aligned to a vector, one run, nothing added
  NormRuns runs;
  const float *mean, *scale, *slope, *offset;  // patterns; slope may be null
  NormIn dy, v, x, add;                        // add is optional, and may be dx
  const std::uint16_t* signs;                  // ReLU: what the first pass wrote, read instead of v; optional
  NormOut dx;
};

struct NormKernels {
  void (*apply)(const NormApply& a);
  // Mean and sum of squared differences from it, per position, over the runs or, of a single run, over its
  // whole periods.
  void (*moments)(const NormRuns& runs, const NormIn& x, float* mean, float* m2);
  void (*grad_sums)(const NormGradSums& a);
  void (*grad_apply)(const NormGradApply& a);
};

}  // namespace fastcnn

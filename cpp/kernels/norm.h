// Per-channel normalisation. Values are seen as a flat run of floats whose channels repeat every `period`
// vectors: channels-last values of c channels have the period lcm(c, kWidth) / kWidth, one plane of a
// batch-interleaved block has 1. Per-channel numbers come expanded to one period ("pattern"), so every
// channel count runs in full vectors.
//
//   c = 6, kWidth = 4, period 3:   x  [0 1 2 3][4 5 0 1][2 3 4 5][0 1 2 3] ...   (channel of each float)
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/activation_kind.h"

namespace fastcnn {

struct NormApply {  // y = act((x - mean) * scale + shift + residual)
  Act act;
  bool stream;                        // past the cache; y aligned to a vector
  std::int64_t period;                // vectors
  const float *mean, *scale, *shift;  // [period * kWidth]
  const float *x, *residual;          // residual may be null
  float* y;
  std::int64_t n;  // floats; starts at the pattern's first position
};

struct NormGradSums {  // with g = dy act'(y): sums over the values of g and of g * (x - mean), per position
  Act act;
  std::int64_t period;
  const float* mean;        // pattern
  const float *dy, *y, *x;  // y only where act is one
  float* masked;            // g is written here, if not null
  bool stream;              // masked goes past the cache; aligned to a vector
  std::uint16_t* signs;     // if not null: per vector, the bits of the lanes with y > 0
  std::int64_t n;
  float *sum_g, *sum_gx;  // [period * kWidth], written
};

struct NormGradApply {  // dx = g * scale - (x - mean) * slope - offset; without slope: dx = g * scale
  Act act;
  bool stream;
  std::int64_t period;
  const float *mean, *scale, *slope, *offset;  // patterns; slope may be null
  const float *dy, *y, *x;
  const std::uint16_t* signs;  // ReLU: what the first pass wrote, read instead of y; or null
  float* dx;
  std::int64_t n;
};

struct NormKernels {
  void (*apply)(const NormApply& a);
  // Mean and sum of squared differences from it, per position, over `rows` whole periods (at least 1).
  void (*moments)(const float* x, std::int64_t rows, std::int64_t period, float* mean, float* m2);
  void (*grad_sums)(const NormGradSums& a);
  void (*grad_apply)(const NormGradApply& a);
};

}  // namespace fastcnn

// Matrix products of fully connected layers. One thread; operands are described by strides in floats, so the
// same kernels serve rows of images ([N][F]) and batch-interleaved values ([N / B][F][B]).
#pragma once

#include <cstddef>
#include <cstdint>

namespace fastcnn {

// C[m][n] = start + sum over k of A[m, k] B[k][n]. Elements of A are broadcast, those of B and C lie along
// vectors.
struct OuterProduct {
  const float* a = nullptr;
  std::ptrdiff_t a_m = 1, a_k = 1;  // one of them is 1
  // A is evenly spaced for `run` steps of k, then goes on at a_run from where the run began.
  std::int64_t run = 0;  // 0: all of k
  std::ptrdiff_t a_run = 0;
  const float* b = nullptr;
  std::ptrdiff_t b_k = 0;
  float* c = nullptr;
  std::ptrdiff_t c_m = 0;
  std::int64_t m = 0, n = 0, k = 0;
  const float* row_start = nullptr;     // [m] or none
  const float* column_start = nullptr;  // [n] or none; not together with row_start
  bool accumulate = false;              // start from C; then neither of the above
};

// y[i][o] = start + sum over k of x[i][k] w[o][k], with k along vectors in both.
struct DotProducts {
  const float* x = nullptr;
  std::ptrdiff_t x_i = 0;
  const float* w = nullptr;
  std::ptrdiff_t w_o = 0;
  float* y = nullptr;
  std::ptrdiff_t y_i = 0;
  std::int64_t images = 0, out = 0, k = 0;
  const float* start = nullptr;  // [out] or none
  bool accumulate = false;       // start from y
};

struct LinearKernels {
  int panel;  // outputs per panel of packed weights: a multiple of the vector width
  void (*outer)(const OuterProduct& p);
  void (*dot)(const DotProducts& p);
  // Weights w[out][in] -> panels [out / panel][in][panel]; one panel, `out` <= panel rows, zero-filled.
  void (*pack_panel)(const float* w, std::int64_t out, std::int64_t in, float* packed);
  // sums[f] = sum over images of y; f < features. Rows [images][stride], or blocks [features][B] that are
  // `stride` apart, of which lanes past the last image are not read.
  void (*sum_rows)(const float* y, std::ptrdiff_t stride, std::int64_t images, std::int64_t features,
                   float* sums);
  void (*sum_blocks)(const float* y, std::ptrdiff_t stride, std::int64_t images, std::int64_t features,
                     float* sums);
};

}  // namespace fastcnn

// The kernels of InterleavedKernels that stand in interleaved_weights.cpp and interleaved_memory.cpp.
#pragma once

#include "kernels/generic/tiles.h"
#include "kernels/interleaved.h"

namespace fastcnn {
namespace FASTCNN_ISA {

// Sums a convolution tile keeps: fewer than kAccumulates where operands need the registers too.
constexpr int kConvSums = kAccumulators < 24 ? kAccumulators : 24;

// Rows i (or columns) with 0 <= at + i * step < size, i in [0, count), step > 0.
struct Range {
  std::int64_t begin = 0, end = 0;

  Range() = default;
  Range(std::int64_t at, std::int64_t step, std::int64_t size, std::int64_t count) {
    begin = at >= 0 ? 0 : ceil_div(-at, step);
    end = at >= size ? 0 : ceil_div(size - at, step);
    if (end > count) end = count;
    if (begin > end) begin = end;
  }
};

void il_plan_weights(IlWeights* c);
void il_fill_pixels(const IlWeights& c, IlPixel* table);
void il_conv_weights(const IlWeights& c, const float* x, const float* dy, int valid, float* work, float* dw,
                     float* db);
void il_finish(float* y, const float* residual, std::int64_t n, Act act);
void il_pool_row(const IlPool& p, const float* x, float* y);

}  // namespace FASTCNN_ISA
}  // namespace fastcnn

// The kernels of LinearKernels that stand in linear_dot.cpp and linear_memory.cpp.
#pragma once

#include "kernels/linear.h"
#include "kernels/simd/simd.h"

namespace fastcnn {
namespace FASTCNN_ISA {

constexpr int kPanel = 2 * kWidth;

void linear_dot(const DotProducts& p);
void linear_pack_panel(const float* w, std::int64_t out, std::int64_t in, float* packed);
void linear_activate(float* y, std::int64_t n, Act act);
void block_to_rows(const float* x, std::int64_t features, std::int64_t first, std::int64_t columns,
                   int images, float* rows);
void linear_sum_rows(const float* y, std::ptrdiff_t stride, std::int64_t images, std::int64_t features,
                     float* sums);
void linear_sum_blocks(const float* y, std::int64_t images, std::int64_t features, float* sums);

}  // namespace FASTCNN_ISA
}  // namespace fastcnn

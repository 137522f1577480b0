// Declares what loss.cpp gives to the pointwise table.
#pragma once

#include "kernels/pointwise.h"
#include "kernels/simd/simd.h"

namespace fastcnn::FASTCNN_ISA {

void softmax_rows(const float* x, float* y, std::int64_t rows, std::int64_t classes);
void softmax_block(const float* x, float* y, std::int64_t classes);
void softmax_grad_rows(const float* dy, const float* y, float* dx, std::int64_t rows, std::int64_t classes);
void softmax_grad_block(const float* dy, const float* y, float* dx, std::int64_t classes);
void cross_entropy_rows(CrossEntropyArgs& a);
void cross_entropy_block(CrossEntropyArgs& a);

}  // namespace fastcnn::FASTCNN_ISA

// Elementwise kernels and the parameter update.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/functions.h"

namespace fastcnn {

struct PointwiseKernels {
  void (*function)(const Function& f, const float* x, float* y, std::int64_t n);  // may be in place
  // dx = dy f'(.) from v, which is x or y as the function's row says
  void (*function_grad)(const Function& f, const float* dy, const float* v, float* dx, std::int64_t n);
  // y = f(in[0] + in[1] + ...), in this order; float arrays, count >= 1
  void (*add)(const Function& f, const void* const* in, std::int64_t count, float* y, std::int64_t n);
  void (*scale)(const float* x, float factor, float* y, std::int64_t n);
  // hyper: learning rate, momentum, weight decay, dampening, nesterov, first step. buffer may be null: no
  // momentum.
  void (*sgd)(float* param, const float* grad, float* buffer, const float* hyper, std::int64_t n);
};

}  // namespace fastcnn

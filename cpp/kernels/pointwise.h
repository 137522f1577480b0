// Elementwise kernels, the parameter update, softmax and cross-entropy.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/functions.h"

namespace fastcnn {

// Softmax and cross-entropy of some samples in one pass over their logits.
struct CrossEntropyArgs {
  const float* logits;         // [samples][classes], or one interleaved block [classes][kWidth]
  const std::int64_t* labels;  // [samples]; one outside [0, classes) makes the loss NaN
  float* dlogits;              // as logits, or null
  std::int64_t samples;        // at most kWidth for a block
  std::int64_t classes;
  float scale;     // dlogits = (softmax - one hot) * scale
  double loss;     // added to, sample by sample in order
  double correct;  // added to: samples whose first largest logit is the label's
};

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

  // *_rows: [rows][classes]; *_block: one interleaved block [classes][kWidth]
  void (*softmax_rows)(const float* x, float* y, std::int64_t rows, std::int64_t classes);
  void (*softmax_block)(const float* x, float* y, std::int64_t classes);
  void (*softmax_grad_rows)(const float* dy, const float* y, float* dx, std::int64_t rows,
                            std::int64_t classes);
  void (*softmax_grad_block)(const float* dy, const float* y, float* dx, std::int64_t classes);
  void (*cross_entropy_rows)(CrossEntropyArgs& a);
  void (*cross_entropy_block)(CrossEntropyArgs& a);
};

}  // namespace fastcnn

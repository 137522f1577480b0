// Softmax and cross-entropy.
#pragma once

#include <cstdint>

namespace fastcnn {

// Softmax and cross-entropy of some samples in one pass over their logits.
struct CrossEntropyArgs {
  const float* logits;         // [samples][classes], or one interleaved block [classes][kWidth]
  const std::int64_t* labels;  // [samples]; one outside [0, classes) makes the loss NaN
  float* dlogits;              // as logits, or null
  std::int64_t samples;        // at most kWidth for a block
  std::int64_t classes;
  float scale;  // dlogits = (softmax - one hot) * scale
};
struct LossSum {         // added to, sample by sample in order
  double loss, correct;  // correct: samples whose first largest logit is the label's
};

// *_rows: [rows][classes]; *_block: one interleaved block [classes][kWidth]
struct LossKernels {
  void (*softmax_rows)(const float* x, float* y, std::int64_t rows, std::int64_t classes);
  void (*softmax_block)(const float* x, float* y, std::int64_t classes);
  void (*softmax_grad_rows)(const float* dy, const float* y, float* dx, std::int64_t rows,
                            std::int64_t classes);
  void (*softmax_grad_block)(const float* dy, const float* y, float* dx, std::int64_t classes);
  void (*cross_entropy_rows)(const CrossEntropyArgs& a, LossSum& to);
  void (*cross_entropy_block)(const CrossEntropyArgs& a, LossSum& to);
};

}  // namespace fastcnn

// The table of all ops. Each area registers its own.
#pragma once

#include "ops/op.h"

namespace fastcnn::ops {

class Registry {
 public:
  // op must live forever (a function-local static).
  void add(const OpDef& op);
  const OpDef* find(const std::string& name) const;
  std::vector<std::string> names() const;

 private:
  std::vector<const OpDef*> ops_;
};

void register_activation(Registry& r);   // relu tanh sigmoid, activation_backward
void register_batchnorm(Registry& r);    // batch_norm_stats _apply _backward _inference ...
void register_conv2d(Registry& r);       // conv2d conv2d_backward_data conv2d_backward_weights
void register_elementwise(Registry& r);  // add scale
void register_shape_ops(Registry& r);    // flatten concat pad_channels subsample and their backward ops
void register_layout(Registry& r);       // convert
void register_linear(Registry& r);       // linear linear_backward_data linear_backward_weights
void register_loss(Registry& r);         // softmax softmax_cross_entropy
void register_pool(Registry& r);         // max_pool2d avg_pool2d global_avg_pool2d and their backward ops
void register_sgd(Registry& r);          // sgd

}  // namespace fastcnn::ops

// The table of all ops. Each family registers its own.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "ops/op.h"

namespace fastcnn::ops {

class Registry {
 public:
  template <class Op, class... Args>
  void add(Args&&... args) {
    auto op = std::make_unique<Op>(std::forward<Args>(args)...);
    const std::string name = op->name();
    ops_[name] = std::move(op);
  }
  const std::map<std::string, std::unique_ptr<OpDef>>& ops() const { return ops_; }

 private:
  std::map<std::string, std::unique_ptr<OpDef>> ops_;
};

void register_conv(Registry& r);       // conv1d conv2d conv3d and their backward ops, fold_channel_affine
void register_pool(Registry& r);       // max, average, global and adaptive pooling and their backward ops
void register_norm(Registry& r);       // batch_norm_stats _apply _backward _inference ..., running_statistics
void register_pointwise(Registry& r);  // the functions of kernels/functions.inc, add, scale, sgd
void register_linear(Registry& r);     // linear linear_backward_data linear_backward_weights
void register_loss(Registry& r);       // softmax softmax_cross_entropy
void register_shape(Registry& r);      // flatten concat slice_channels pad_channels subsample, convert

}  // namespace fastcnn::ops

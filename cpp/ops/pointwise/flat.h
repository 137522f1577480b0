// Elementwise ops: the same arithmetic wherever the elements lie. One functor gives both faces, the loop over
// chunks and the block op.
#pragma once

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "core/parallel.h"
#include "kernels/table.h"
#include "ops/block.h"
#include "ops/checks.h"

namespace fastcnn::ops {

constexpr int kMaxFlat = 4;

// Kernel: void operator()(const float* const* in, float* const* out, std::int64_t n) const. Operands of the
// first output's (or first input's) shape advance with the elements; others (a scalar) stay.
template <class Kernel>
class FlatRun : public Prepared {
 public:
  FlatRun(const Problem& p, Kernel kernel) : kernel_(std::move(kernel)), n_(storage_elements(p.inputs[0])) {
    for (const TensorDesc& d : p.inputs) moves_.push_back(!d.absent && d.shape == p.inputs[0].shape);
    outputs_ = p.outputs.size();
  }
  void run(const RunArgs& a) const override {
    parallel_for((n_ + kFlatItem - 1) / kFlatItem, [&](std::int64_t item, int) {
      const std::int64_t at = item * kFlatItem;
      const float* in[kMaxFlat] = {};
      float* out[kMaxFlat] = {};
      for (std::size_t i = 0; i < moves_.size(); ++i)
        if (a.in[i]) in[i] = static_cast<const float*>(a.in[i]) + (moves_[i] ? at : 0);
      for (std::size_t i = 0; i < outputs_; ++i)
        if (a.out[i]) out[i] = static_cast<float*>(a.out[i]) + at;
      kernel_(in, out, std::min(kFlatItem, n_ - at));
    });
  }

 private:
  Kernel kernel_;
  std::int64_t n_;
  std::vector<bool> moves_;
  std::size_t outputs_;
};

template <class Kernel>
class FlatBlock : public BlockOp {
 public:
  FlatBlock(const Problem& p, Kernel kernel) : BlockOp(p), kernel_(std::move(kernel)) {
    const Shape& s = p.inputs[0].shape;
    n_ = s[0] == 0 ? 0 : s.numel() / s[0] * kernels().width;
  }
  void block(const BlockArgs& a) const override {
    kernel_(reinterpret_cast<const float* const*>(a.in), reinterpret_cast<float* const*>(a.out), n_);
  }

 private:
  Kernel kernel_;
  std::int64_t n_ = 0;
};

template <class Kernel>
std::unique_ptr<Prepared> make_flat(const Problem& p, Kernel kernel) {
  if (layout_of(p) == Layout::kInterleaved) return std::make_unique<FlatBlock<Kernel>>(p, std::move(kernel));
  return std::make_unique<FlatRun<Kernel>>(p, std::move(kernel));
}

}  // namespace fastcnn::ops

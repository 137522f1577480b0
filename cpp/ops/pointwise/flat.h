// Elementwise ops: the same arithmetic wherever the elements lie. One functor gives both faces, runs of
// elements and blocks of images.
#pragma once

#include <algorithm>
#include <memory>
#include <vector>

#include "kernels/pointwise.h"
#include "ops/checks.h"
#include "ops/sliced.h"

namespace fastcnn::ops {

// The arithmetic of an op: derived from this, made from a Problem, with
//   void operator()(const void* const* in, void* const* out, std::int64_t n) const
// for n elements that lie side by side in every operand.
struct FlatKernel {
  // The input that is no array of elements but read as it is by all of them (a scalar, settings); -1: none.
  static constexpr int kWhole = -1;
  static std::string declines(const Problem& p) { return unless_no_posts(p); }
  explicit FlatKernel(const Problem& p) : k(*p.kernels().pointwise) {}
  const PointwiseKernels& k;
};

template <class Kernel>
class FlatRuns final : public Prepared {
 public:
  explicit FlatRuns(const Problem& p) : kernel_(p) {
    const TensorDesc& x = p.inputs[0];
    const bool is_dense = unless_dense(p).empty();
    total_ = storage_elements(x);
    if (is_dense) {
      run_ = kFlatItem;
    } else {  // pixels of c channels, or the channels' planes of an image
      const Geometry g = geometry_of(x);
      if (layout_of(p) == Layout::kNHWC) per_image_ = std::max<std::int64_t>(g.pixels(), 1);
      run_ = std::max<std::int64_t>(g.values() / per_image_, 1);
    }
    runs_ = ceil_div(kFlatItem, run_);
    const auto step = [&](const TensorDesc& d) {
      if (d.absent) return Step{0, 0};
      if (is_dense) return Step{run_, 0};
      const Geometry g = geometry_of(d);
      return Step{g.image, g.pixel};
    };
    for (const TensorDesc& d : p.inputs) in_.push_back(step(d));
    for (const TensorDesc& d : p.outputs) out_.push_back(step(d));
    if (Kernel::kWhole >= 0) in_[static_cast<std::size_t>(Kernel::kWhole)] = {0, 0};
    stages_ = {ceil_div(ceil_div(total_, run_), runs_)};
  }
  std::size_t thread_bytes() const override { return (in_.size() + out_.size()) * sizeof(void*); }
  void item(const RunArgs& a, int, std::int64_t i, const Worker& w) const override {
    auto** const in = reinterpret_cast<const void**>(w.own);
    auto** const out = reinterpret_cast<void**>(w.own + in_.size() * sizeof(void*));
    for (std::int64_t r = i * runs_; r < (i + 1) * runs_ && r * run_ < total_; ++r) {
      const std::int64_t image = r / per_image_, pixel = r % per_image_;
      for (std::size_t k = 0; k < in_.size(); ++k)
        in[k] = a.in[k] ? floats(a.in[k]) + in_[k].at(image, pixel) : nullptr;
      for (std::size_t k = 0; k < out_.size(); ++k)
        out[k] = a.out[k] ? floats(a.out[k]) + out_[k].at(image, pixel) : nullptr;
      kernel_(in, out, std::min(run_, total_ - r * run_));
    }
  }

 private:
  struct Step {  // elements
    std::int64_t image, pixel;
    std::int64_t at(std::int64_t i, std::int64_t p) const { return i * image + p * pixel; }
  };
  Kernel kernel_;
  std::int64_t total_, run_, runs_, per_image_ = 1;  // elements, of a run; runs of an item, of an image
  std::vector<Step> in_, out_;
};

template <class Kernel>
class FlatBlocks final : public Sliced {
 public:
  explicit FlatBlocks(const Problem& p)
      : Sliced(p), kernel_(p), n_(geometry_of(p.inputs[0]).values() * block()) {}
  void slice(const SliceArgs& a) const override { kernel_(a.in, a.out, n_); }

 private:
  Kernel kernel_;
  std::int64_t n_;
};

template <class Kernel, bool kBlocks>
std::string flat_declines(const Problem& p) {
  const bool blocks = layout_of(p) == Layout::kInterleaved;
  const char* const takes = kBlocks ? "takes interleaved values" : "takes values that are not interleaved";
  return first_of(blocks == kBlocks ? "" : takes, unless_alike(p), Kernel::declines(p));
}
template <class Kernel>
std::vector<Impl> flat() {
  return {{"interleaved", flat_declines<Kernel, true>, prepare<FlatBlocks<Kernel>>, true},
          {"flat", flat_declines<Kernel, false>, prepare<FlatRuns<Kernel>>}};
}

class FlatOp : public OpDef {
 public:
  using OpDef::OpDef;
  int in_place(const Problem&) const override { return 0; }
};

}  // namespace fastcnn::ops

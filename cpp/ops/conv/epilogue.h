// What a channels-last convolution does with finished outputs besides writing them.
#pragma once

#include <initializer_list>
#include <vector>

#include "kernels/conv.h"
#include "ops/conv/conv.h"

namespace fastcnn::ops {

// Floats between the pixels of a value that lies channels-last, whatever its layout is called. Its rows,
// planes and images follow one another without gaps.
std::int64_t pixel_of(const TensorDesc& d);

// Reason to decline: nothing is done on the way in, and on the way out these, in this order, or statistics
// alone.
std::string unless_epilogue(const Problem& p, std::initializer_list<PostKind> order);

// Batch-norm statistics from the parts that the items of a convolution leave behind: per part and channel a
// shift, the sum of y - shift and of its square, in [part][3][channels]. Which outputs make a part is fixed
// by the problem, and parts are merged in order.
class PartialMoments {
 public:
  PartialMoments() = default;
  // Of p's statistics, if it ends with them. values_of(i): of part i, per channel. Adds the stage that
  // merges.
  template <class F>
  PartialMoments(const Problem& p, std::int64_t parts, std::int64_t channels,
                 std::vector<std::int64_t>& stages, F&& values_of) {
    const PostOp* post = find(p.after, PostKind::kStatistics);
    if (!post) return;
    channels_ = channels, eps_ = post->eps, out_ = post->out;
    for (std::int64_t i = 0; i < parts; ++i) values_.push_back(values_of(i));
    stages.push_back(items());
  }

  explicit operator bool() const { return out_ >= 0; }
  std::int64_t floats() const { return static_cast<std::int64_t>(values_.size()) * 3 * channels_; }
  float* part(float* parts, std::int64_t i) const { return parts + i * 3 * channels_; }
  // An item of that stage, which writes the results.
  void merge(const float* parts, const RunArgs& a, std::int64_t item) const;

 private:
  std::int64_t items() const;
  std::vector<std::int64_t> values_;
  std::int64_t channels_ = 0;
  double eps_ = 0;
  int out_ = -1;
};

// y = f(y + residual) on runs of pixels that are still in cache, and a copy of y + residual where somebody
// wants it.
class ConvFinisher {
 public:
  explicit ConvFinisher(const Problem& p);
  bool keeps() const { return kept_.index >= 0; }
  // Pixels [first, first + pixels) of the value, channels [channel, channel + c), which lie at y.
  void run(const RunArgs& a, float* y, std::int64_t y_pixel, std::int64_t first, std::int64_t pixels,
           std::int64_t channel, std::int64_t c, bool keep) const;

 private:
  struct Operand {
    int index = -1;
    std::int64_t pixel = 0;
  };
  const ConvKernels& k_;
  Operand residual_, kept_;
  Function function_;
};

}  // namespace fastcnn::ops

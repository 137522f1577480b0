// What a channels-last convolution does with finished outputs besides writing them.
#pragma once

#include <initializer_list>
#include <vector>

#include "ops/conv/conv.h"
#include "ops/norm/moments.h"

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
                 std::vector<std::int64_t>& stages, Book& shared, F&& values_of) {
    const PostOp* post = find(p.after, PostKind::kStatistics);
    if (!post) return;
    channels_ = channels, eps_ = post->eps, out_ = post->out;
    for (std::int64_t i = 0; i < parts; ++i) values_.push_back(values_of(i));
    parts_ = shared.add(parts * 3 * channels_);
    stages.push_back(ceil_div(channels_, kJoined));
  }

  // Part i from a channel on: its shift, the others follow `channels` apart. Null where there are none.
  float* part(const RunArgs& a, std::int64_t i, std::int64_t channel) const {
    return out_ < 0 ? nullptr : parts_.in(a.shared) + i * 3 * channels_ + channel;
  }
  // An item of that stage, which writes the results.
  void merge(const RunArgs& a, std::int64_t item) const;

 private:
  std::vector<std::int64_t> values_;
  Range<float> parts_;
  std::int64_t channels_ = 0;
  double eps_ = 0;
  int out_ = -1;
};

}  // namespace fastcnn::ops

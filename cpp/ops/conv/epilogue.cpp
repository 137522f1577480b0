#include "ops/conv/epilogue.h"

namespace fastcnn::ops {

std::int64_t pixel_of(const TensorDesc& d) {
  TensorDesc t = d;
  t.layout = Layout::kNHWC;
  return geometry_of(t).pixel;
}

std::string unless_epilogue(const Problem& p, std::initializer_list<PostKind> order) {
  if (!p.before.empty()) return "takes its input as it is";
  return find(p.after, PostKind::kStatistics) ? unless_in_order(p.after, {PostKind::kStatistics})
                                              : unless_in_order(p.after, order);
}

void PartialMoments::merge(const RunArgs& a, std::int64_t item) const {
  const std::int64_t c0 = item * kJoined;
  JoinedMoments joined(channels_ - c0);
  for (std::size_t p = 0; p < values_.size(); ++p) {
    const float* shift = part(a, static_cast<std::int64_t>(p), c0);
    joined.add_shifted(values_[p], shift, shift + channels_, shift + 2 * channels_);
  }
  joined.write(c0, {ops::floats(a.out[out_]), ops::floats(a.out[out_ + 1]),
                    static_cast<double*>(a.out[out_ + 2]), channels_, eps_});
}

}  // namespace fastcnn::ops

#include "ops/conv/epilogue.h"

#include <algorithm>

#include "ops/norm/moments.h"

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

std::int64_t PartialMoments::items() const { return ceil_div(channels_, kJoined); }

void PartialMoments::merge(const float* parts, const RunArgs& a, std::int64_t item) const {
  const std::int64_t c0 = item * kJoined;
  JoinedMoments joined(channels_ - c0);
  for (std::size_t p = 0; p < values_.size(); ++p) {
    const float* shift = parts + static_cast<std::int64_t>(p) * 3 * channels_ + c0;
    joined.add_shifted(values_[p], shift, shift + channels_, shift + 2 * channels_);
  }
  joined.write(c0, {ops::floats(a.out[out_]), ops::floats(a.out[out_ + 1]),
                    static_cast<double*>(a.out[out_ + 2]), channels_, eps_});
}

ConvFinisher::ConvFinisher(const Problem& p) : k_(*p.kernels().conv), function_(function_of(p.after)) {
  const auto operand = [](const std::vector<TensorDesc>& descs, int i) {
    return i < 0 ? Operand{} : Operand{i, pixel_of(descs[static_cast<std::size_t>(i)])};
  };
  if (const PostOp* add = find(p.after, PostKind::kAdd)) residual_ = operand(p.inputs, add->in);
  if (const PostOp* f = find(p.after, PostKind::kFunction)) kept_ = operand(p.outputs, f->out);
}

void ConvFinisher::run(const RunArgs& a, float* y, std::int64_t y_pixel, std::int64_t first,
                       std::int64_t pixels, std::int64_t channel, std::int64_t c, bool keep) const {
  if (residual_.index < 0 && !function_) return;
  ConvFinish f{};
  f.y = y, f.pixel = y_pixel;
  if (residual_.index >= 0) f.residual = floats(a.in[residual_.index]) + first * residual_.pixel + channel;
  if (keep && keeps()) f.kept = floats(a.out[kept_.index]) + first * kept_.pixel + channel;
  f.residual_pixel = residual_.pixel, f.kept_pixel = kept_.pixel;
  f.pixels = pixels, f.c = c;
  f.function = function_;
  k_.finish(f);
}

}  // namespace fastcnn::ops

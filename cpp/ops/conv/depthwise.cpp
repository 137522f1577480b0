// Depthwise convolution (one input and one output channel per group) in three directions, lanes along
// channels. An item is a strip of one output plane and a block of channels (in_, of the output too): it walks
// the taps over its patch of the input.
#include "ops/conv/direct.h"

namespace fastcnn::ops {
namespace {

constexpr std::int64_t kPatchFloats = 32 * 1024;
constexpr std::int64_t kChannels = 64;  // of a block
constexpr double kGroupMacs = 4e6;      // the least work that is worth sums of its own

class DepthwiseConv : public StripOutputs {
 public:
  DepthwiseConv(const Problem& p, bool transposed)
      : StripOutputs(p, transposed), padded_c_(round_up(grid_.out_c, p.kernels().width)) {
    in_ = ChannelBlocks(grid_.out_c, kChannels);
    cut_patches(kPatchFloats);
    set_stages(p, strips() * in_.count);
  }

  // [tap][channel], taps in the order of the phases.
  std::size_t packed_bytes() const override {
    return static_cast<std::size_t>(grid_.taps * padded_c_) * sizeof(float);
  }
  std::string detail() const override { return text(); }

  void pack(const void* const* in, std::byte* packed, std::int64_t) const override {
    const auto* w = floats(in[1]);
    float* to = floats(packed);
    for (const ConvPhase& f : grid_.phases)
      for (const int tap : f.indices)
        for (std::int64_t c = 0; c < padded_c_; ++c) *to++ = c < grid_.out_c ? w[c * c_.taps() + tap] : 0.0f;
  }

  void item(const RunArgs& a, int stage, std::int64_t i, const Worker& w) const override {
    if (stage == 1) return moments_.merge(a, i);
    const std::int64_t block = i % in_.count, c0 = in_.begin(block);
    const ConvStrip s = strip(i / in_.count);
    const ConvOutput out = {floats(a.out[0]) + first_pixel(s) * out_pixel_ + c0, grid_.out[2] * out_pixel_,
                            out_pixel_};
    const Part phases = grid_.phases_of(s.plane);
    DepthwiseRow r{};
    r.in = source(a, w, s, 0, block), r.out = out.at;
    r.w_tap = padded_c_;
    if (const float* bias = floats(a.in, bias_)) r.bias = bias + c0;
    r.c = in_.length(block);
    for (auto f = static_cast<std::size_t>(phases.begin); f < static_cast<std::size_t>(phases.end); ++f) {
      const ConvPhase& phase = grid_.phases[f];
      r.offsets = phase.offsets[in_.last(block)].data(), r.taps = static_cast<int>(phase.taps.size());
      r.w = floats(a.packed) + phase.taps_before * padded_c_ + c0;
      run_rows(r, phase, s, steps(block), out, k_.depthwise_row);
    }
    finish(a, i / in_.count, s, out, c0, r.c, s.row1);
  }

 private:
  std::int64_t padded_c_;
};

class DepthwiseWeights : public StripWeights {
 public:
  explicit DepthwiseWeights(const Problem& p)
      : StripWeights(p),
        padded_c_(round_up(grid_.out_c, p.kernels().width)),
        sums_floats_(round_up((grid_.taps + 1) * padded_c_, 16)) {
    in_ = ChannelBlocks(grid_.out_c, kChannels);
    cut_patches(kPatchFloats);
    groups_ = groups_of(std::max<std::int64_t>(1, strips()), c_.macs(), kGroupMacs,
                        sums_floats_ * std::int64_t{sizeof(float)});
    sums_ = shared_.add(groups_ * sums_floats_);
    stages_ = {groups_ * in_.count, in_.count};
  }

  std::string detail() const override {
    return str(groups_, " groups of ", grid_.planes(), " times ", text());
  }

  void item(const RunArgs& a, int stage, std::int64_t i, const Worker& w) const override {
    float* const sums = sums_.in(a.shared);
    if (stage == 1) return total(a, sums, in_.begin(i), in_.end(i));
    sum_group(a, w, i / in_.count, i % in_.count, sums + i / in_.count * sums_floats_);
  }

 private:
  // A group's sums: [tap][channel], then the bias.
  void sum_group(const RunArgs& a, const Worker& w, std::int64_t group, std::int64_t block,
                 float* sums) const {
    const std::int64_t c0 = in_.begin(block), c = in_.length(block);
    const ConvSteps step = steps(block);
    const ConvPhase& phase = grid_.phases[0];
    for (std::int64_t t = 0; t <= grid_.taps; ++t) std::fill_n(sums + t * padded_c_ + c0, c, 0.0f);
    for_strips(a, group, c0, c, sums + grid_.taps * padded_c_, [&](const ConvStrip& s, const float* dy) {
      DepthwiseOuter o{};
      o.x = source(a, w, s, 0, block), o.x_pixel = grid_.step[2] * step.pixel;
      o.offsets = phase.offsets[in_.last(block)].data(), o.taps = static_cast<int>(grid_.taps);
      o.dy = dy, o.dy_pixel = dy_pixel_;
      o.dw = sums + c0, o.dw_tap = padded_c_;
      o.pixels = s.col1 - s.col0, o.c = c;
      for (std::int64_t row = s.row0; row < s.row1; ++row) {
        k_.depthwise_outer(o);
        o.x += grid_.step[1] * step.row, o.dy += grid_.out[2] * dy_pixel_;
      }
    });
  }

  void total(const RunArgs& a, const float* sums, std::int64_t begin, std::int64_t end) const {
    const auto of_groups = [&](std::int64_t at) { return sum_of(sums + at, groups_, sums_floats_); };
    for (std::int64_t c = begin; c < end; ++c) {
      if (want_dw_)
        for (std::int64_t t = 0; t < grid_.taps; ++t)
          floats(a.out[0])[c * grid_.taps + grid_.phases[0].indices[static_cast<std::size_t>(t)]] =
              of_groups(t * padded_c_ + c);
      if (want_db_) floats(a.out[1])[c] = of_groups(grid_.taps * padded_c_ + c);
    }
  }

  std::int64_t padded_c_, sums_floats_;
  Range<float> sums_;
};

std::string declines(const Problem& p) {
  const auto& c = facts_of<ConvParams>(p);
  if (!c.depthwise())
    return str("takes one channel per group, got ", c.ic, " -> ", c.oc, " in ", c.groups, " groups");
  return first_of(unless_in(p, Layout::kNHWC), unless_epilogue(p, {PostKind::kAdd, PostKind::kFunction}));
}
std::string weights_declines(const Problem& p) { return first_of(declines(p), unless_no_posts(p)); }

}  // namespace

const Impl kConvDepthwise[3] = {{"depthwise", declines, prepare_conv<DepthwiseConv, false>},
                                {"depthwise", declines, prepare_conv<DepthwiseConv, true>},
                                {"depthwise", weights_declines, prepare<DepthwiseWeights>}};

}  // namespace fastcnn::ops

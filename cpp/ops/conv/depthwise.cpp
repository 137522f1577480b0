// Depthwise convolution (one input and one output channel per group) in three directions, lanes along
// channels. An item is a strip of one output plane and a block of channels: it walks the taps over its patch
// of the input.
#include <cstring>

#include "ops/conv/direct.h"
#include "ops/conv/epilogue.h"

namespace fastcnn::ops {
namespace {

constexpr std::int64_t kPatchFloats = 32 * 1024;
constexpr std::int64_t kChannels = 64;  // of a block
constexpr double kGroupMacs = 4e6;      // the least work that is worth sums of its own

// What all three directions do: strips, channel blocks, patches.
class DepthwiseStrips : public Prepared {
 protected:
  DepthwiseStrips(const Problem& p, ConvGrid grid)
      : k_(*p.kernels().conv),
        grid_(std::move(grid)),
        channels_(grid_.out_c, kChannels),
        padded_c_(round_up(grid_.out_c, p.kernels().width)) {
    const auto along = [&](int cut, int whole) {  // floats of the patch per output along `cut`
      return grid_.patch[0] * grid_.reach(whole, cut == 1 ? grid_.out[2] : grid_.phase[1]) * channels_.size *
                 grid_.step[cut] / grid_.phase[cut] +
             1;
    };
    const std::int64_t per_row = along(1, 2);
    const int axis = ConvStrips::axis_of(grid_, static_cast<double>(per_row * grid_.phase[1]) / kPatchFloats);
    const std::int64_t per = axis == 1 ? per_row : along(2, 1), unit = grid_.phase[axis];
    const std::int64_t wanted =
        std::clamp(kPatchFloats / per / unit * unit, unit, round_up(grid_.out[axis], unit));
    strips_ = ConvStrips(grid_, axis, grid_.out[axis], wanted, unit);
    input_ = ConvInput(k_, strips_.rows, strips_.cols);
    for (const bool last : {false, true}) {
      const ConvSteps steps = input_.steps(grid_, channels_.length(last ? channels_.count - 1 : 0));
      for (const ConvPhase& f : grid_.phases) {
        offsets_[last].emplace_back();
        for (const ConvTap& t : f.taps) offsets_[last].back().push_back(steps.of(t));
      }
    }
    patch_ = own_.add(input_.patch_floats(grid_, channels_.size));
  }

  std::int64_t strips() const { return grid_.planes() * strips_.of_plane(); }
  const std::ptrdiff_t* offsets(std::int64_t block, std::size_t phase) const {
    return offsets_[channels_.last(block)][phase].data();
  }
  const float* source(const RunArgs& a, const Worker& w, std::int64_t plane, const ConvStrip& s,
                      std::int64_t block) const {
    return input_.at(grid_, floats(a.in[0]), plane, s, channels_.begin(block), channels_.length(block),
                     patch_.in(w.own));
  }

  const ConvKernels& k_;
  ConvGrid grid_;
  ChannelBlocks channels_;
  std::int64_t padded_c_;
  ConvStrips strips_;
  ConvInput input_;

 private:
  std::vector<std::vector<std::ptrdiff_t>> offsets_[2];  // [last block of channels][phase][tap]
  Range<float> patch_;
};

class DepthwiseConv : public DepthwiseStrips {
 public:
  DepthwiseConv(const Problem& p, ConvGrid grid)
      : DepthwiseStrips(p, std::move(grid)),
        bias_(own_input(p, 2)),
        finisher_(p),
        kernel_(facts_of<ConvParams>(p).taps()),
        out_pixel_(pixel_of(p.outputs[0])) {
    stages_ = {strips() * channels_.count};
    moments_ = PartialMoments(p, strips(), grid_.out_c, stages_, [&](std::int64_t i) {
      const ConvStrip s = strips_.strip(grid_, i % strips_.of_plane());
      return (s.row1 - s.row0) * (s.col1 - s.col0);
    });
    parts_ = shared_.add(moments_.floats());
  }

  // [tap][channel], taps in the order of the phases.
  std::size_t packed_bytes() const override {
    return static_cast<std::size_t>(grid_.taps * padded_c_) * sizeof(float);
  }
  std::string detail() const override { return strips_.text(); }

  void pack(const void* const* in, std::byte* packed, std::int64_t) const override {
    const auto* w = floats(in[1]);
    auto* to = reinterpret_cast<float*>(packed);
    for (const ConvPhase& f : grid_.phases)
      for (const int tap : f.indices)
        for (std::int64_t c = 0; c < padded_c_; ++c) *to++ = c < grid_.out_c ? w[c * kernel_ + tap] : 0.0f;
  }

  void item(const RunArgs& a, int stage, std::int64_t i, const Worker& w) const override {
    float* const parts = parts_.in(a.shared);
    if (stage == 1) return moments_.merge(parts, a, i);
    const std::int64_t block = i % channels_.count, strip = i / channels_.count;
    const std::int64_t c0 = channels_.begin(block), c = channels_.length(block);
    const std::int64_t plane = strip / strips_.of_plane();
    const ConvStrip s = strips_.strip(grid_, strip % strips_.of_plane());
    const std::int64_t cols = s.col1 - s.col0, out_row = grid_.out[2] * out_pixel_;
    const ConvSteps steps = input_.steps(grid_, c);
    const float* const src = source(a, w, plane, s, block);
    float* const y = floats(a.out[0]) + (grid_.first_pixel(plane, s.row0) + s.col0) * out_pixel_ + c0;
    const Part phases = grid_.phases_of(plane);
    DepthwiseRow r{};
    r.in_pixel = grid_.step[2] * steps.pixel;
    r.w_tap = padded_c_;
    r.out_pixel = grid_.phase[2] * out_pixel_;
    if (const float* bias = floats(a.in, bias_)) r.bias = bias + c0;
    r.c = c;
    for (auto f = static_cast<std::size_t>(phases.begin); f < static_cast<std::size_t>(phases.end); ++f) {
      const ConvPhase& phase = grid_.phases[f];
      r.offsets = offsets(block, f), r.taps = static_cast<int>(phase.taps.size());
      r.w = reinterpret_cast<const float*>(a.packed) + phase.taps_before * padded_c_ + c0;
      r.pixels = ceil_div(cols - phase.first[2], grid_.phase[2]);
      r.in = src;
      for (std::int64_t row = s.row0 + phase.first[1]; row < s.row1; row += grid_.phase[1]) {
        r.out = y + (row - s.row0) * out_row + phase.first[2] * out_pixel_;
        k_.depthwise_row(r);
        r.in += grid_.step[1] * steps.row;
      }
    }
    float* const shift = moments_ ? moments_.part(parts, strip) + c0 : nullptr;
    for (std::int64_t row = s.row0; row < s.row1; ++row) {
      float* const at = y + (row - s.row0) * out_row;
      finisher_.run(a, at, out_pixel_, grid_.first_pixel(plane, row) + s.col0, cols, c0, c, true);
      if (shift)
        k_.moments(at, out_pixel_, cols, c, row == s.row0, shift, shift + grid_.out_c,
                   shift + 2 * grid_.out_c);
    }
  }

 private:
  int bias_;
  ConvFinisher finisher_;
  std::int64_t kernel_, out_pixel_;
  PartialMoments moments_;
  Range<float> parts_;
};

class DepthwiseWeights : public DepthwiseStrips {
 public:
  explicit DepthwiseWeights(const Problem& p)
      : DepthwiseStrips(p, conv_grid(facts_of<ConvParams>(p), p.inputs[0])),
        dy_pixel_(pixel_of(p.inputs[1])),
        want_dw_(p.wants(0)),
        want_db_(p.wants(1)),
        sums_floats_(round_up((grid_.taps + 1) * padded_c_, 16)),
        groups_(groups_of(std::max<std::int64_t>(1, strips()), facts_of<ConvParams>(p).macs(), kGroupMacs,
                          sums_floats_ * std::int64_t{sizeof(float)})),
        sums_(shared_.add(groups_ * sums_floats_)) {
    stages_ = {groups_ * channels_.count, channels_.count};
  }

  std::string detail() const override {
    return str(groups_, " groups of ", grid_.planes(), " times ", strips_.text());
  }

  void item(const RunArgs& a, int stage, std::int64_t i, const Worker& w) const override {
    float* const sums = sums_.in(a.shared);
    if (stage == 1) return total(a, sums, channels_.begin(i), channels_.begin(i) + channels_.length(i));
    const std::int64_t g = i / channels_.count;
    group(a, w, g, i % channels_.count, sums + g * sums_floats_);
  }

 private:
  // A group's sums: [tap][channel], then the bias.
  void group(const RunArgs& a, const Worker& w, std::int64_t g, std::int64_t block, float* sums) const {
    const std::int64_t c0 = channels_.begin(block), c = channels_.length(block);
    const ConvSteps steps = input_.steps(grid_, c);
    float* const db = sums + grid_.taps * padded_c_ + c0;
    for (std::int64_t t = 0; t <= grid_.taps; ++t)
      std::memset(sums + t * padded_c_ + c0, 0, static_cast<std::size_t>(c) * sizeof(float));
    const Part mine = part_of(strips(), groups_, g);
    for (std::int64_t i = mine.begin; i < mine.end; ++i) {
      const std::int64_t plane = i / strips_.of_plane();
      const ConvStrip s = strips_.strip(grid_, i % strips_.of_plane());
      const std::int64_t rows = s.row1 - s.row0, cols = s.col1 - s.col0;
      const float* const dy = floats(a.in[1]) + (grid_.first_pixel(plane, s.row0) + s.col0) * dy_pixel_ + c0;
      if (want_db_) k_.channel_sums(dy, dy_pixel_, rows * cols, c, db);  // rows are whole, or there is one
      if (!want_dw_) continue;
      DepthwiseOuter o{};
      o.x = source(a, w, plane, s, block), o.x_pixel = grid_.step[2] * steps.pixel;
      o.offsets = offsets(block, 0), o.taps = static_cast<int>(grid_.taps);
      o.dy = dy, o.dy_pixel = dy_pixel_;
      o.dw = sums + c0, o.dw_tap = padded_c_;
      o.pixels = cols, o.c = c;
      for (std::int64_t row = 0; row < rows; ++row) {
        k_.depthwise_outer(o);
        o.x += grid_.step[1] * steps.row, o.dy += grid_.out[2] * dy_pixel_;
      }
    }
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

  std::int64_t dy_pixel_;
  bool want_dw_, want_db_;
  std::int64_t sums_floats_, groups_;
  Range<float> sums_;
};

std::string declines(const Problem& p) {
  const auto& c = facts_of<ConvParams>(p);
  if (!c.depthwise())
    return str("takes one channel per group, got ", c.ic, " -> ", c.oc, " in ", c.groups, " groups");
  return first_of(unless_in(p, Layout::kNHWC), unless_epilogue(p, {PostKind::kAdd, PostKind::kFunction}));
}
std::string weights_declines(const Problem& p) { return first_of(declines(p), unless_no_posts(p)); }

template <bool kTransposed>
std::unique_ptr<Prepared> prepare_depthwise(const Problem& p) {
  return std::make_unique<DepthwiseConv>(p, conv_grid(facts_of<ConvParams>(p), p.inputs[0], kTransposed));
}

}  // namespace

const Impl kConvDepthwise[3] = {{"depthwise", declines, prepare_depthwise<false>},
                                {"depthwise", declines, prepare_depthwise<true>},
                                {"depthwise", weights_declines, prepare<DepthwiseWeights>}};

}  // namespace fastcnn::ops

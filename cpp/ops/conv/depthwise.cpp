// Depthwise convolution (one input and one output channel per group) in three directions, lanes along
// channels. An item is a strip of rows of one image and a block of channels: it cuts a padded patch and walks
// the taps over it.
#include <algorithm>
#include <cstring>

#include "core/parallel.h"
#include "ops/block.h"
#include "ops/checks.h"
#include "ops/conv/direct.h"
#include "ops/conv/epilogue.h"
#include "ops/pieces.h"

namespace fastcnn::ops {
namespace {

constexpr std::int64_t kPatchFloats = 32 * 1024;
constexpr std::int64_t kChannels = 64;  // of a block
constexpr std::int64_t kMaxGroups = 16;
constexpr double kGroupMacs = 4e6;  // the least work that is worth sums of its own

// What all three directions do: strips, channel blocks, patches.
class DepthwiseStrips {
 public:
  explicit DepthwiseStrips(ConvGrid grid)
      : kernels_(*kernels().conv),
        grid_(std::move(grid)),
        channels_(grid_.out_c, kChannels),
        padded_c_(ceil_div(grid_.out_c, kernels().width) * kernels().width) {
    const std::int64_t per_row = cols() * channels_.size * grid_.step_h / grid_.phase_h + 1,
                       unit = grid_.phase_h;
    strip_ = std::clamp(kPatchFloats / per_row / unit * unit, unit, ceil_div(grid_.out_h, unit) * unit);
    strips_ = ceil_div(grid_.out_h, strip_);
    for (int last = 0; last < 2; ++last) {
      const std::int64_t c = channels_.length(last ? channels_.count - 1 : 0);
      for (const ConvPhase& f : grid_.phases) {
        offsets_[last].emplace_back();
        for (const ConvTap& t : f.taps) offsets_[last].back().push_back((t.row * cols() + t.col) * c);
      }
    }
  }

 protected:
  std::int64_t cols() const {
    return (ceil_div(grid_.out_w, grid_.phase_w) - 1) * grid_.step_w + grid_.patch_w;
  }
  std::int64_t rows(std::int64_t out) const {
    return (ceil_div(out, grid_.phase_h) - 1) * grid_.step_h + grid_.patch_h;
  }
  std::size_t patch_bytes() const {
    return align64(static_cast<std::size_t>(rows(strip_) * cols() * channels_.size) * sizeof(float));
  }
  const std::ptrdiff_t* offsets(std::int64_t block, std::size_t phase) const {
    return offsets_[block + 1 == channels_.count][phase].data();
  }
  void cut(const float* src, std::int64_t n, std::int64_t row0, std::int64_t row1, std::int64_t block,
           float* patch) const {
    const std::int64_t c = channels_.length(block);
    kernels_.patch({src + n * grid_.src_h * grid_.src_w * grid_.src_c + channels_.begin(block),
                    grid_.src_w * grid_.src_c, grid_.src_c, grid_.src_h, grid_.src_w,
                    row0 / grid_.phase_h * grid_.step_h + grid_.corner_row, grid_.corner_col,
                    rows(row1 - row0), cols(), c, patch, c});
  }

  const ConvKernels& kernels_;
  ConvGrid grid_;
  ChannelBlocks channels_;
  std::int64_t padded_c_, strip_ = 1, strips_ = 1;

 private:
  std::vector<std::vector<std::ptrdiff_t>> offsets_[2];  // [last block of channels][phase][tap]
};

class DepthwiseConv : public Prepared, DepthwiseStrips {
 public:
  DepthwiseConv(const Problem& p, ConvGrid grid)
      : DepthwiseStrips(std::move(grid)),
        operands_(conv_operands(p)),
        fusion_(p.fusion),
        threads_(num_threads()) {
    const Shape& w = p.inputs[1].shape;
    kernel_ = w[2] * w[3];
    if (!fusion_.statistics) return;
    std::vector<std::int64_t> pixels;
    for (std::int64_t i = 0; i < grid_.n * strips_; ++i)
      pixels.push_back((std::min(grid_.out_h, (i % strips_ + 1) * strip_) - i % strips_ * strip_) *
                       grid_.out_w);
    moments_ = PartialMoments(std::move(pixels), grid_.out_c, fusion_);
  }

  // [tap][channel], taps in the order of the phases.
  std::size_t packed_bytes() const override {
    return static_cast<std::size_t>(grid_.taps * padded_c_) * sizeof(float);
  }
  std::size_t scratch_bytes() const override {
    return align64(moments_.bytes()) + static_cast<std::size_t>(threads_) * patch_bytes();
  }
  std::string detail() const override { return str(strips_, " strips of ", strip_, " rows"); }

  void pack(const void* const* in, std::byte* packed) const override {
    const auto* w = static_cast<const float*>(in[1]);
    auto* to = reinterpret_cast<float*>(packed);
    for (const ConvPhase& f : grid_.phases)
      for (const int tap : f.indices)
        for (std::int64_t c = 0; c < padded_c_; ++c) *to++ = c < grid_.out_c ? w[c * kernel_ + tap] : 0.0f;
  }

  void run(const RunArgs& a) const override {
    auto* parts = reinterpret_cast<float*>(a.scratch);
    std::byte* patches = a.scratch + align64(moments_.bytes());
    parallel_for(grid_.n * strips_ * channels_.count, [&](std::int64_t i, int thread) {
      item(a, i, parts, reinterpret_cast<float*>(patches + static_cast<std::size_t>(thread) * patch_bytes()));
    });
    if (fusion_.statistics) moments_.merge(parts, a, operands_);
  }

 private:
  void item(const RunArgs& a, std::int64_t i, float* parts, float* patch) const {
    const std::int64_t block = i % channels_.count, s = i / channels_.count % strips_;
    const std::int64_t n = i / channels_.count / strips_, c0 = channels_.begin(block),
                       c = channels_.length(block);
    const std::int64_t row0 = s * strip_, row1 = std::min(grid_.out_h, row0 + strip_);
    cut(static_cast<const float*>(a.in[0]), n, row0, row1, block, patch);
    const std::int64_t out_row = grid_.out_w * grid_.out_c, first = n * grid_.out_h * out_row + c0;
    float* y = static_cast<float*>(a.out[0]) + first;
    DepthwiseRow r{};
    r.in_pixel = grid_.step_w * c;
    r.w_tap = padded_c_;
    r.out_pixel = grid_.phase_w * grid_.out_c;
    if (operands_.bias >= 0) r.bias = static_cast<const float*>(a.in[operands_.bias]) + c0;
    r.c = c;
    for (std::size_t f = 0; f < grid_.phases.size(); ++f) {
      const ConvPhase& phase = grid_.phases[f];
      r.offsets = offsets(block, f), r.taps = static_cast<int>(phase.taps.size());
      r.w = reinterpret_cast<const float*>(a.packed) + phase.taps_before * padded_c_ + c0;
      r.pixels = ceil_div(grid_.out_w - phase.col, grid_.phase_w);
      std::int64_t t = 0;
      for (std::int64_t row = row0 + phase.row; row < row1; row += grid_.phase_h, ++t) {
        r.in = patch + t * grid_.step_h * cols() * c;
        r.out = y + row * out_row + phase.col * grid_.out_c;
        kernels_.depthwise_row(r);
      }
    }
    const auto* residual =
        fusion_.add ? static_cast<const float*>(a.in[operands_.residual]) + first : nullptr;
    float* shift = fusion_.statistics ? moments_.part(parts, n * strips_ + s) + c0 : nullptr;
    for (std::int64_t row = row0; row < row1; ++row) {
      if (residual || fusion_.activation != Activation::kNone)
        kernels_.finish({y + row * out_row, residual ? residual + row * out_row : nullptr, grid_.out_c,
                         grid_.out_c, grid_.out_w, c, static_cast<Act>(fusion_.activation)});
      if (shift)
        kernels_.moments(y + row * out_row, grid_.out_c, grid_.out_w, c, row == row0, shift,
                         shift + grid_.out_c, shift + 2 * grid_.out_c);
    }
  }

  ConvOperands operands_;
  Fusion fusion_;
  int threads_;
  std::int64_t kernel_ = 1;
  PartialMoments moments_;
};

class DepthwiseWeights : public Prepared, DepthwiseStrips {
 public:
  DepthwiseWeights(const Problem& p, const ConvParams& c)
      : DepthwiseStrips(forward_grid(c)), threads_(num_threads()) {
    const auto wanted = [&](std::size_t i) { return i >= p.wanted.size() || p.wanted[i]; };
    want_dw_ = wanted(0), want_db_ = wanted(1);
    const auto most = std::min<std::int64_t>(kMaxGroups, std::max<std::int64_t>(1, grid_.n * strips_));
    groups_ = std::clamp<std::int64_t>(static_cast<std::int64_t>(c.macs() / kGroupMacs), 1, most);
  }

  std::size_t scratch_bytes() const override {
    return static_cast<std::size_t>(groups_) * sums_bytes() +
           static_cast<std::size_t>(threads_) * patch_bytes();
  }
  std::string detail() const override {
    return str(groups_, " groups of ", grid_.n * strips_, " strips of ", strip_, " rows");
  }

  void run(const RunArgs& a) const override {
    auto* sums = reinterpret_cast<float*>(a.scratch);
    std::byte* patches = a.scratch + static_cast<std::size_t>(groups_) * sums_bytes();
    parallel_for(groups_ * channels_.count, [&](std::int64_t i, int thread) {
      group(a, i / channels_.count, i % channels_.count, sums + i / channels_.count * sums_floats(),
            reinterpret_cast<float*>(patches + static_cast<std::size_t>(thread) * patch_bytes()));
    });
    const auto total = [&](std::int64_t at) {
      double sum = 0;
      for (std::int64_t g = 0; g < groups_; ++g) sum += sums[g * sums_floats() + at];
      return static_cast<float>(sum);
    };
    const auto& taps = grid_.phases[0].indices;
    for (std::int64_t c = 0; c < grid_.out_c; ++c) {
      if (want_dw_)
        for (std::int64_t t = 0; t < grid_.taps; ++t)
          static_cast<float*>(a.out[0])[c * grid_.taps + taps[static_cast<std::size_t>(t)]] =
              total(t * padded_c_ + c);
      if (want_db_) static_cast<float*>(a.out[1])[c] = total(grid_.taps * padded_c_ + c);
    }
  }

 private:
  // A group's sums: [tap][channel], then the bias.
  std::int64_t sums_floats() const { return static_cast<std::int64_t>(sums_bytes() / sizeof(float)); }
  std::size_t sums_bytes() const {
    return align64(static_cast<std::size_t>((grid_.taps + 1) * padded_c_) * sizeof(float));
  }

  void group(const RunArgs& a, std::int64_t g, std::int64_t block, float* sums, float* patch) const {
    const std::int64_t c0 = channels_.begin(block), c = channels_.length(block), items = grid_.n * strips_;
    float* db = sums + grid_.taps * padded_c_ + c0;
    for (std::int64_t t = 0; t <= grid_.taps; ++t)
      std::memset(sums + t * padded_c_ + c0, 0, static_cast<std::size_t>(c) * sizeof(float));
    for (std::int64_t i = items * g / groups_; i < items * (g + 1) / groups_; ++i) {
      const std::int64_t n = i / strips_, row0 = i % strips_ * strip_,
                         row1 = std::min(grid_.out_h, row0 + strip_);
      const float* dy =
          static_cast<const float*>(a.in[1]) + (n * grid_.out_h + row0) * grid_.out_w * grid_.out_c + c0;
      if (want_db_) kernels_.channel_sums(dy, grid_.out_c, (row1 - row0) * grid_.out_w, c, db);
      if (!want_dw_) continue;
      cut(static_cast<const float*>(a.in[0]), n, row0, row1, block, patch);
      DepthwiseOuter o{};
      o.x_pixel = grid_.step_w * c;
      o.offsets = offsets(block, 0), o.taps = static_cast<int>(grid_.taps);
      o.dy_pixel = grid_.out_c;
      o.dw = sums + c0, o.dw_tap = padded_c_;
      o.pixels = grid_.out_w, o.c = c;
      for (std::int64_t row = row0; row < row1; ++row) {
        o.x = patch + (row - row0) * grid_.step_h * cols() * c;
        o.dy = dy + (row - row0) * grid_.out_w * grid_.out_c;
        kernels_.depthwise_outer(o);
      }
    }
  }

  int threads_;
  bool want_dw_ = true, want_db_ = true;
  std::int64_t groups_ = 1;
};

std::string declines(const Problem& p, const ConvParams& c) {
  if (c.groups != c.ic || c.groups != c.oc)
    return str("takes one channel per group, got ", c.ic, " -> ", c.oc, " in ", c.groups, " groups");
  if (p.fusion.pool.kind != PoolSpec::kNone) return "does not pool";
  return unless_in(p, Layout::kNHWC);
}

}  // namespace

std::vector<Impl> conv2d_depthwise(ConvDirection d) {
  switch (d) {
    case ConvDirection::kForward:
      return {
          {"depthwise", [](const Problem& p) { return declines(p, conv_forward_params(p.attrs, p.inputs)); },
           [](const Problem& p) -> std::unique_ptr<Prepared> {
             return std::make_unique<DepthwiseConv>(p, forward_grid(conv_forward_params(p.attrs, p.inputs)));
           }}};
    case ConvDirection::kBackwardData:
      return {{"depthwise",
               [](const Problem& p) { return declines(p, conv_backward_data_params(p.attrs, p.inputs)); },
               [](const Problem& p) -> std::unique_ptr<Prepared> {
                 const ConvParams c = conv_backward_data_params(p.attrs, p.inputs);
                 return std::make_unique<DepthwiseConv>(p, backward_data_grid(c));
               }}};
    case ConvDirection::kBackwardWeights:
      return {{"depthwise",
               [](const Problem& p) { return declines(p, conv_backward_weights_params(p.attrs, p.inputs)); },
               [](const Problem& p) -> std::unique_ptr<Prepared> {
                 return std::make_unique<DepthwiseWeights>(p,
                                                           conv_backward_weights_params(p.attrs, p.inputs));
               }}};
  }
  return {};
}

}  // namespace fastcnn::ops

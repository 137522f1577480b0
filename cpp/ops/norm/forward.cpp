// Runs batch norm forward: statistics of the whole batch, and normalisation with residual and activation.
#include <cmath>

#include "core/parallel.h"
#include "kernels/norm.h"
#include "ops/checks.h"
#include "ops/norm/pattern.h"
#include "ops/pieces.h"

namespace fastcnn::ops {
namespace {

std::string unless_channels_last(const Problem& p) { return unless_in(p, Layout::kNHWC); }
std::string unless_interleaved(const Problem& p) { return unless_in(p, Layout::kInterleaved); }

// Joins moments of parts: the mean of means first, then every part's distance from it.
struct JoinedMoments {
  double count = 0, mean = 0, m2 = 0;
  void add_mean(double n, double part_mean) { count += n, mean += n * part_mean; }
  void end_means() { mean /= count; }
  void add_m2(double n, double part_mean, double part_m2) {
    m2 += part_m2 + n * (part_mean - mean) * (part_mean - mean);
  }
};

StatisticsOut statistics_out(const RunArgs& a, double momentum, double eps) {
  // The running buffers are inputs that the plan owns and this op moves.
  return {floats(a.out[0]),
          floats(a.out[1]),
          floats(const_cast<void*>(a.in[1])),
          floats(const_cast<void*>(a.in[2])),
          momentum,
          eps};
}

class StatsChannelsLast : public Prepared {
 public:
  explicit StatsChannelsLast(const Problem& p)
      : pattern_(p.inputs[0].shape[1], p.inputs[0].shape.numel()),
        momentum_(p.attrs.number("momentum", 0.1)),
        eps_(p.attrs.number("eps", 1e-5)) {}
  std::size_t scratch_bytes() const override {
    return 2 * static_cast<std::size_t>(pattern_.groups) * pattern_.pattern_bytes();
  }
  void run(const RunArgs& a) const override {
    const float* const x = floats(a.in[0]);
    auto* const parts = reinterpret_cast<float*>(a.scratch);  // [groups][mean, m2][row]
    const std::int64_t row = pattern_.row;
    if (pattern_.rows > 0)
      parallel_for(pattern_.groups, [&](std::int64_t g, int) {
        kernels().norm->moments(x + pattern_.group_begin(g) * row, pattern_.group_rows(g), pattern_.period,
                                parts + 2 * g * row, parts + (2 * g + 1) * row);
      });
    const StatisticsOut out = statistics_out(a, momentum_, eps_);
    parallel_for((pattern_.c + kJoined - 1) / kJoined, [&](std::int64_t item, int) {
      join(x, parts, item * kJoined, std::min(kJoined, pattern_.c - item * kJoined), out);
    });
  }
  std::string detail() const override { return str(pattern_.groups, " groups"); }

 private:
  void join(const float* x, const float* parts, std::int64_t first, std::int64_t channels,
            const StatisticsOut& out) const {
    JoinedMoments joined[kJoined];
    const auto each = [&](auto&& f) {  // f(values, means, m2s) of the channels
      if (pattern_.rows > 0)
        pattern_.each_position(first, [&](std::int64_t g, std::int64_t j) {
          const float* const part = parts + 2 * g * pattern_.row + j;
          f(static_cast<double>(pattern_.group_rows(g)), part, part + pattern_.row);
        });
      static constexpr float kNone[kJoined] = {};
      for (std::int64_t i = pattern_.rows * pattern_.row + first; i < pattern_.floats; i += pattern_.c)
        f(1.0, x + i, kNone);
    };
    each([&](double n, const float* mean, const float*) {
      for (std::int64_t k = 0; k < channels; ++k) joined[k].add_mean(n, mean[k]);
    });
    for (JoinedMoments& m : joined) m.end_means();
    each([&](double n, const float* mean, const float* m2) {
      for (std::int64_t k = 0; k < channels; ++k) joined[k].add_m2(n, mean[k], m2[k]);
    });
    for (std::int64_t k = 0; k < channels; ++k)
      out.write(first + k, joined[k].count, joined[k].mean, joined[k].m2);
  }
  Pattern pattern_;
  double momentum_, eps_;
};

// One item per block and channel; lanes past the batch are computed and left out of the sums.
class StatsInterleaved : public Prepared {
 public:
  explicit StatsInterleaved(const Problem& p)
      : f_(norm_facts(p.inputs[0].shape)),
        momentum_(p.attrs.number("momentum", 0.1)),
        eps_(p.attrs.number("eps", 1e-5)),
        width_(kernels().width),
        blocks_((f_.n + width_ - 1) / width_) {}
  std::size_t scratch_bytes() const override {
    return static_cast<std::size_t>(2 * blocks_ * f_.c * width_) * sizeof(float);
  }
  void run(const RunArgs& a) const override {
    const float* const x = floats(a.in[0]);
    auto* const parts = reinterpret_cast<float*>(a.scratch);  // [blocks][c][mean, m2][width]
    parallel_for(blocks_ * f_.c, [&](std::int64_t item, int) {
      float* const part = parts + 2 * item * width_;
      kernels().norm->moments(x + item * f_.hw * width_, f_.hw, 1, part, part + width_);
    });
    const StatisticsOut out = statistics_out(a, momentum_, eps_);
    const auto n = static_cast<double>(f_.hw);
    parallel_for(f_.c, [&](std::int64_t c, int) {
      JoinedMoments joined;
      const auto each = [&](auto&& f) {
        for (std::int64_t image = 0; image < f_.n; ++image) {
          const float* const part = parts + 2 * (image / width_ * f_.c + c) * width_ + image % width_;
          f(part[0], part[width_]);
        }
      };
      each([&](float mean, float) { joined.add_mean(n, mean); });
      joined.end_means();
      each([&](float mean, float m2) { joined.add_m2(n, mean, m2); });
      out.write(c, joined.count, joined.mean, joined.m2);
    });
  }

 private:
  NormFacts f_;
  double momentum_, eps_;
  std::int64_t width_, blocks_;
};

// y = act((x - mean) * scale + shift + residual): the operands in the order of the op, with its fusion.
template <bool kInference>
struct Affine {
  double eps;
  Act act;
  int gamma = -1, beta = -1, residual = -1;  // inputs

  explicit Affine(const Problem& p) : eps(p.attrs.number("eps", 1e-5)), act(act_of(p.fusion.activation)) {
    const int own = static_cast<int>(p.inputs.size()) - p.fusion.add;
    if (own > 3 && !p.inputs[3].absent) gamma = 3;
    if (own > 4 && !p.inputs[4].absent) beta = 4;
    if (p.fusion.add) residual = own;
  }
  float mean(const void* const* in, std::int64_t c) const { return floats(in[1])[c]; }
  float scale(const void* const* in, std::int64_t c) const {
    const double spread = floats(in[2])[c], rstd = kInference ? 1 / std::sqrt(spread + eps) : spread;
    return static_cast<float>((gamma < 0 ? 1.0 : floats(in[gamma])[c]) * rstd);
  }
  float shift(const void* const* in, std::int64_t c) const { return beta < 0 ? 0.0f : floats(in[beta])[c]; }
};

template <bool kInference>
class ApplyChannelsLast : public Prepared {
 public:
  explicit ApplyChannelsLast(const Problem& p)
      : affine_(p), pattern_(p.inputs[0].shape[1], p.inputs[0].shape.numel()) {}
  std::size_t scratch_bytes() const override { return 3 * align64(pattern_.pattern_bytes()); }
  void run(const RunArgs& a) const override {
    float* const mean = reinterpret_cast<float*>(a.scratch);
    float* const scale = mean + align64(pattern_.pattern_bytes()) / sizeof(float);
    float* const shift = scale + align64(pattern_.pattern_bytes()) / sizeof(float);
    pattern_.expand(mean, [&](std::int64_t c) { return affine_.mean(a.in, c); });
    pattern_.expand(scale, [&](std::int64_t c) { return affine_.scale(a.in, c); });
    pattern_.expand(shift, [&](std::int64_t c) { return affine_.shift(a.in, c); });
    const float* const residual = affine_.residual < 0 ? nullptr : floats(a.in[affine_.residual]);
    const bool stream = pattern_.streams() && reinterpret_cast<std::uintptr_t>(a.out[0]) % 64 == 0;
    const std::int64_t items = pattern_.items();
    parallel_for(items, [&](std::int64_t item, int) {
      // Backwards: the end of x was read last by the statistics and may still be near.
      const std::int64_t at = (items - 1 - item) * pattern_.item();
      kernels().norm->apply({affine_.act, stream, pattern_.period, mean, scale, shift, floats(a.in[0]) + at,
                             residual ? residual + at : nullptr, floats(a.out[0]) + at,
                             std::min(pattern_.item(), pattern_.floats - at)});
    });
  }

 private:
  Affine<kInference> affine_;
  Pattern pattern_;
};

template <bool kInference>
class ApplyInterleaved : public BlockOp {
 public:
  explicit ApplyInterleaved(const Problem& p) : BlockOp(p), affine_(p), f_(norm_facts(p.inputs[0].shape)) {}
  std::size_t local_bytes() const override {
    return 3 * static_cast<std::size_t>(kernels().width) * sizeof(float);
  }
  void block(const BlockArgs& a) const override {
    const std::int64_t width = kernels().width, plane = f_.hw * width;
    float* const mean = reinterpret_cast<float*>(a.local);
    float *const scale = mean + width, *const shift = scale + width;
    const float* const residual = affine_.residual < 0 ? nullptr : floats(a.in[affine_.residual]);
    for (std::int64_t c = 0; c < f_.c; ++c) {
      std::fill_n(mean, width, affine_.mean(a.in, c));
      std::fill_n(scale, width, affine_.scale(a.in, c));
      std::fill_n(shift, width, affine_.shift(a.in, c));
      kernels().norm->apply({affine_.act, false, 1, mean, scale, shift, floats(a.in[0]) + c * plane,
                             residual ? residual + c * plane : nullptr, floats(a.out[0]) + c * plane, plane});
    }
  }

 private:
  Affine<kInference> affine_;
  NormFacts f_;
};

template <bool kInference>
std::vector<Impl> apply_list() {
  return {{"interleaved", unless_interleaved, prepare<ApplyInterleaved<kInference>>},
          {"channels_last", unless_channels_last, prepare<ApplyChannelsLast<kInference>>}};
}

}  // namespace

std::vector<Impl> batch_norm_stats_list() {
  return {{"interleaved", unless_interleaved, prepare<StatsInterleaved>},
          {"channels_last", unless_channels_last, prepare<StatsChannelsLast>}};
}

std::vector<Impl> batch_norm_apply_list(bool inference) {
  return inference ? apply_list<true>() : apply_list<false>();
}

}  // namespace fastcnn::ops

// Runs batch norm backward in two passes: the sums over the batch, then dx. The gradient of the activation
// that follows rides on both.
//
// With g = dy act'(y), xhat = (x - mean) rstd and n values per channel (Ioffe & Szegedy 2015, section 3):
//   dbeta = sum g,  dgamma = sum g xhat,  dx = gamma rstd (g - dbeta / n - xhat dgamma / n)
// In inference mean and rstd are constants: dx = gamma rstd g.
#include <cmath>

#include "core/parallel.h"
#include "kernels/norm.h"
#include "ops/checks.h"
#include "ops/norm/pattern.h"
#include "ops/pieces.h"

namespace fastcnn::ops {
namespace {

// Per-channel numbers of the second pass.
struct ChannelGrad {
  float *scale, *slope, *offset;  // [c]
};

// What both layouts share: operands, and the step from sums to parameters' gradients.
struct NormBackward {
  bool inference;
  double eps;
  Act act;
  int gamma = -1, y = -1;  // inputs
  int masked = -1;         // output
  bool wants_dx, wants_sums;
  NormFacts f;

  NormBackward(const Problem& p, bool inference_mode)
      : inference(inference_mode),
        eps(p.attrs.number("eps", 1e-5)),
        act(act_of(p.fusion.act_grad)),
        f(norm_facts(p.inputs[1].shape)) {
    const int own = static_cast<int>(p.inputs.size()) - (act != Act::kNone);
    if (own > 4 && !p.inputs[4].absent) gamma = 4;
    if (act != Act::kNone) y = own;
    if (p.fusion.keep_masked) masked = static_cast<int>(p.outputs.size()) - 1;
    wants_dx = wants(p, 0);
    wants_sums = !inference || wants(p, 1) || wants(p, 2) || masked >= 0;
  }
  // sum_g, sum_gx: over g and g (x - mean) of channel c.
  void finish(const RunArgs& a, std::int64_t c, double sum_g, double sum_gx, const ChannelGrad& to) const {
    const double spread = floats(a.in[3])[c], rstd = inference ? 1 / std::sqrt(spread + eps) : spread;
    const double dgamma = sum_gx * rstd, scale = (gamma < 0 ? 1.0 : floats(a.in[gamma])[c]) * rstd;
    if (a.out[1]) floats(a.out[1])[c] = static_cast<float>(dgamma);
    if (a.out[2]) floats(a.out[2])[c] = static_cast<float>(sum_g);
    const auto count = static_cast<double>(f.count());
    to.scale[c] = static_cast<float>(scale);
    to.slope[c] = static_cast<float>(scale * rstd * dgamma / count);
    to.offset[c] = static_cast<float>(scale * sum_g / count);
  }
  const float* y_of(const RunArgs& a) const { return y < 0 ? nullptr : floats(a.in[y]); }
  float* masked_of(const RunArgs& a) const { return masked < 0 ? nullptr : floats(a.out[masked]); }
};

// Consecutive arrays of the scratch, each on its own cache line.
class Carve {
 public:
  explicit Carve(std::byte* base) : at_(base) {}
  float* floats_of(std::int64_t n) {
    auto* const p = reinterpret_cast<float*>(at_);
    at_ += align64(static_cast<std::size_t>(n) * sizeof(float));
    return p;
  }

 private:
  std::byte* at_;
};
std::size_t carved(std::int64_t n) { return align64(static_cast<std::size_t>(n) * sizeof(float)); }

template <bool kInference>
class BackwardChannelsLast : public Prepared {
 public:
  explicit BackwardChannelsLast(const Problem& p)
      : b_(p, kInference), pattern_(p.inputs[1].shape[1], p.inputs[1].shape.numel()) {}
  std::size_t scratch_bytes() const override {
    return 4 * carved(pattern_.row) + 3 * carved(pattern_.c) + carved(2 * pattern_.groups * pattern_.row) +
           (keeps_signs() ? align64(static_cast<std::size_t>(vectors_of(pattern_.floats)) * 2) : 0);
  }
  void run(const RunArgs& a) const override {
    Carve carve(a.scratch);
    const std::int64_t row = pattern_.row;
    float *const mean = carve.floats_of(row), *const scale = carve.floats_of(row);
    float *const slope = carve.floats_of(row), *const offset = carve.floats_of(row);
    const ChannelGrad of = {carve.floats_of(pattern_.c), carve.floats_of(pattern_.c),
                            carve.floats_of(pattern_.c)};
    float* const parts =
        carve.floats_of(2 * pattern_.groups * row);  // [groups][sum g, sum g (x - mean)][row]
    pattern_.expand(mean, [&](std::int64_t c) { return floats(a.in[2])[c]; });
    auto* const signs = keeps_signs() ? reinterpret_cast<std::uint16_t*>(carve.floats_of(0)) : nullptr;
    if (b_.wants_sums) sum(a, mean, parts, signs);
    parallel_for((pattern_.c + kJoined - 1) / kJoined, [&](std::int64_t item, int) {
      join(a, parts, item * kJoined, std::min(kJoined, pattern_.c - item * kJoined), of);
    });
    if (!b_.wants_dx || !a.out[0]) return;
    pattern_.expand(scale, [&](std::int64_t c) { return of.scale[c]; });
    pattern_.expand(slope, [&](std::int64_t c) { return of.slope[c]; });
    pattern_.expand(offset, [&](std::int64_t c) { return of.offset[c]; });
    const bool stream = pattern_.streams() && reinterpret_cast<std::uintptr_t>(a.out[0]) % 64 == 0;
    const float* const masked = b_.masked_of(a);
    const Act act = masked ? Act::kNone : b_.act;
    const float *const g = masked ? masked : floats(a.in[0]), *const y = b_.y_of(a);
    const std::int64_t items = pattern_.items();
    parallel_for(items, [&](std::int64_t item, int) {
      // Backwards: the first pass ended there.
      const std::int64_t at = (items - 1 - item) * pattern_.item();
      kernels().norm->grad_apply({act, stream, pattern_.period, mean, scale, kInference ? nullptr : slope,
                                  offset, g + at, y ? y + at : nullptr, floats(a.in[1]) + at,
                                  signs ? signs + at / kernels().width : nullptr, floats(a.out[0]) + at,
                                  std::min(pattern_.item(), pattern_.floats - at)});
    });
  }
  std::string detail() const override { return str(pattern_.groups, " groups"); }

 private:
  // The second pass reads one bit per value instead of y.
  bool keeps_signs() const { return !kInference && b_.act == Act::kRelu && b_.masked < 0; }
  static std::int64_t vectors_of(std::int64_t floats) {
    return (floats + kernels().width - 1) / kernels().width;
  }
  void sum(const RunArgs& a, const float* mean, float* parts, std::uint16_t* signs) const {
    const std::int64_t row = pattern_.row, groups = pattern_.groups;
    parallel_for(groups, [&](std::int64_t g, int) {
      const std::int64_t at = pattern_.group_begin(g) * row;
      const std::int64_t end = g + 1 == groups ? pattern_.floats : pattern_.group_begin(g + 1) * row;
      const float* const y = b_.y_of(a);
      float* const masked = b_.masked_of(a);
      const bool stream = pattern_.streams() && reinterpret_cast<std::uintptr_t>(masked) % 64 == 0;
      kernels().norm->grad_sums({b_.act, pattern_.period, mean, floats(a.in[0]) + at, y ? y + at : nullptr,
                                 floats(a.in[1]) + at, masked ? masked + at : nullptr, stream,
                                 signs ? signs + at / kernels().width : nullptr, end - at,
                                 parts + 2 * g * row, parts + (2 * g + 1) * row});
    });
  }
  void join(const RunArgs& a, const float* parts, std::int64_t first, std::int64_t channels,
            const ChannelGrad& of) const {
    double sum_g[kJoined] = {}, sum_gx[kJoined] = {};
    if (b_.wants_sums)
      pattern_.each_position(first, [&](std::int64_t g, std::int64_t j) {
        const float* const part = parts + 2 * g * pattern_.row + j;
        for (std::int64_t k = 0; k < channels; ++k) sum_g[k] += part[k], sum_gx[k] += part[k + pattern_.row];
      });
    for (std::int64_t k = 0; k < channels; ++k) b_.finish(a, first + k, sum_g[k], sum_gx[k], of);
  }
  NormBackward b_;
  Pattern pattern_;
};

// One item per block and channel. Lanes past the batch stay out of the sums and get dx = 0: what follows adds
// up all lanes.
template <bool kInference>
class BackwardInterleaved : public Prepared {
 public:
  explicit BackwardInterleaved(const Problem& p)
      : b_(p, kInference), width_(kernels().width), blocks_((b_.f.n + width_ - 1) / width_) {}
  std::size_t scratch_bytes() const override {
    const NormFacts& f = b_.f;
    return 5 * carved(f.c * width_) + 3 * carved(f.c) + carved(2 * blocks_ * f.c * width_);
  }
  void run(const RunArgs& a) const override {
    const NormFacts& f = b_.f;
    Carve carve(a.scratch);
    const ChannelGrad of = {carve.floats_of(f.c), carve.floats_of(f.c), carve.floats_of(f.c)};
    float* const parts =
        carve.floats_of(2 * blocks_ * f.c * width_);    // [blocks][c][sum g, sum g (x - mean)][width]
    float* const mean = carve.floats_of(f.c * width_);  // [c][width]
    const auto spread = [&](float* to, const float* v, int lanes) {
      for (std::int64_t i = 0; i < f.c * width_; ++i) to[i] = i % width_ < lanes ? v[i / width_] : 0.0f;
    };
    spread(mean, floats(a.in[2]), static_cast<int>(width_));
    const std::int64_t plane = f.hw * width_;
    const float* const y = b_.y_of(a);
    float* const masked = b_.masked_of(a);
    if (b_.wants_sums)
      parallel_for(blocks_ * f.c, [&](std::int64_t item, int) {
        const std::int64_t at = item * plane;
        float* const part = parts + 2 * item * width_;
        kernels().norm->grad_sums({b_.act, 1, mean + item % f.c * width_, floats(a.in[0]) + at,
                                   y ? y + at : nullptr, floats(a.in[1]) + at, masked ? masked + at : nullptr,
                                   false, nullptr, plane, part, part + width_});
      });
    parallel_for(f.c, [&](std::int64_t c, int) {
      double sum_g = 0, sum_gx = 0;
      for (std::int64_t image = 0; b_.wants_sums && image < f.n; ++image) {
        const float* const part = parts + 2 * (image / width_ * f.c + c) * width_ + image % width_;
        sum_g += part[0], sum_gx += part[width_];
      }
      b_.finish(a, c, sum_g, sum_gx, of);
    });
    if (!b_.wants_dx || !a.out[0]) return;
    const float* const g = masked ? masked : floats(a.in[0]);
    const Act act = masked ? Act::kNone : b_.act;
    // Whole blocks, then the last one with its empty lanes' numbers at zero.
    const std::int64_t full = f.n / width_;
    float *const scale = carve.floats_of(f.c * width_), *const slope = carve.floats_of(f.c * width_);
    float* const offset = carve.floats_of(f.c * width_);
    const auto apply = [&](std::int64_t first, std::int64_t last, int lanes) {
      spread(scale, of.scale, lanes);
      spread(slope, of.slope, lanes);
      spread(offset, of.offset, lanes);
      parallel_for((last - first) * f.c, [&](std::int64_t item, int) {
        const std::int64_t at = (first * f.c + item) * plane, c = item % f.c * width_;
        kernels().norm->grad_apply({act, false, 1, mean + c, scale + c, kInference ? nullptr : slope + c,
                                    offset + c, g + at, y ? y + at : nullptr, floats(a.in[1]) + at, nullptr,
                                    floats(a.out[0]) + at, plane});
      });
    };
    apply(0, full, static_cast<int>(width_));
    if (full < blocks_) apply(full, blocks_, static_cast<int>(f.n - full * width_));
  }

 private:
  NormBackward b_;
  std::int64_t width_, blocks_;
};

template <bool kInference>
std::vector<Impl> backward_list() {
  return {{"interleaved", [](const Problem& p) { return unless_in(p, Layout::kInterleaved); },
           prepare<BackwardInterleaved<kInference>>},
          {"channels_last", [](const Problem& p) { return unless_in(p, Layout::kNHWC); },
           prepare<BackwardChannelsLast<kInference>>}};
}

}  // namespace

std::vector<Impl> batch_norm_backward_list(bool inference) {
  return inference ? backward_list<true>() : backward_list<false>();
}

}  // namespace fastcnn::ops

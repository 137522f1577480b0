// Runs batch norm forward: statistics of the whole batch, the running statistics' step, and normalisation
// with residual and function.
#include <cmath>

#include "ops/norm/moments.h"
#include "ops/norm/pattern.h"
#include "ops/sliced.h"

namespace fastcnn::ops {
namespace {

class Stats : public Prepared {
 public:
  explicit Stats(const Problem& p) : k_(*p.kernels().norm), pattern_(p), eps_(facts_of<NormFacts>(p).eps) {
    sums_ = shared_.add(pattern_.sum_floats());
    stages_ = {pattern_.sum_items(), ceil_div(pattern_.channels(), kJoined)};
  }
  void item(const RunArgs& a, int stage, std::int64_t i, const Worker&) const override {
    float* const sums = sums_.in(a.shared);
    if (stage == 1) return join(a, sums, i * kJoined);
    pattern_.each_part(i, sums, [&](const Piece& piece, float* mean, float* m2) {
      k_.moments(piece.runs, pattern_.in(a, 0, piece), mean, m2);
    });
  }
  std::string detail() const override { return str(pattern_.groups(), " groups"); }

 private:
  void join(const RunArgs& a, const float* sums, std::int64_t first) const {
    const std::int64_t channels = pattern_.channels();
    JoinedMoments joined(channels - first);
    const auto each = [&](auto&& add) {  // add(values, mean of a channel, m2 of a channel)
      pattern_.each_sum(first, sums,
                        [&](std::int64_t n, const float* mean, const float* m2, std::int64_t step) {
                          if (n > 0)
                            add(
                                n, [=](std::int64_t k) { return mean[k * step]; },
                                [=](std::int64_t k) { return m2[k * step]; });
                        });
      pattern_.each_rest(first, [&](std::int64_t at) {
        const float* const x = floats(a.in[0]) + at;
        add(1, [=](std::int64_t k) { return x[k]; }, [](std::int64_t) { return 0.0f; });
      });
    };
    each([&](std::int64_t n, auto mean, auto) { joined.add_mean(n, mean); });
    joined.end_means();
    each([&](std::int64_t n, auto mean, auto m2) { joined.add(n, mean, m2); });
    joined.write(first, {floats(a.out[0]), floats(a.out[1]), static_cast<double*>(a.out[2]), channels, eps_});
  }
  const NormKernels& k_;
  Pattern pattern_;
  double eps_;
  Range<float> sums_;
};

// The variance that runs is not biased, the one that normalises is, as in PyTorch.
class RunningStatistics : public Prepared {
 public:
  explicit RunningStatistics(const Problem& p)
      : facts_(facts_of<RunningFacts>(p)), c_(p.inputs[0].shape[0]) {}
  void item(const RunArgs& a, int, std::int64_t, const Worker&) const override {
    if (facts_.count == 0) return;
    const auto* const mean = static_cast<const double*>(a.in[2]);
    const double *const m2 = mean + c_, n = static_cast<double>(std::max<std::int64_t>(facts_.count - 1, 1));
    // The running buffers are inputs that this op moves.
    const auto step = [this](const void* running, std::int64_t c, double now) {
      float& v = floats(const_cast<void*>(running))[c];
      v = static_cast<float>((1 - facts_.momentum) * v + facts_.momentum * now);
    };
    for (std::int64_t c = 0; c < c_; ++c) step(a.in[0], c, mean[c]), step(a.in[1], c, m2[c] / n);
  }

 private:
  RunningFacts facts_;
  std::int64_t c_;
};

// y = f((x - mean) * scale + shift + residual): the operands in the order of the op, with its post-ops.
struct Affine {
  const NormKernels& k;
  NormFacts facts;
  Function function;
  int gamma, beta, residual = -1;  // inputs
  int kept = -1;                   // output: what the function is applied to

  explicit Affine(const Problem& p)
      : k(*p.kernels().norm),
        facts(facts_of<NormFacts>(p)),
        function(function_of(p.after)),
        gamma(own_input(p, 3)),
        beta(own_input(p, 4)) {
    if (const PostOp* add = find(p.after, PostKind::kAdd)) residual = add->in;
    if (const PostOp* f = find(p.after, PostKind::kFunction)) kept = f->out;
  }
  float mean(const void* const* in, std::int64_t c) const { return floats(in[1])[c]; }
  float scale(const void* const* in, std::int64_t c) const {
    const double spread = floats(in[2])[c],
                 rstd = facts.inference ? 1 / std::sqrt(spread + facts.eps) : spread;
    return static_cast<float>((gamma < 0 ? 1.0 : floats(in[gamma])[c]) * rstd);
  }
  float shift(const void* const* in, std::int64_t c) const { return beta < 0 ? 0.0f : floats(in[beta])[c]; }
};

class ApplyChannelsLast : public Prepared {
 public:
  explicit ApplyChannelsLast(const Problem& p) : affine_(p), pattern_(p) {
    for (Range<float>* r : {&mean_, &scale_, &shift_}) *r = shared_.add(pattern_.pattern_floats());
    stages_ = {1, pattern_.items()};
  }
  void item(const RunArgs& a, int stage, std::int64_t i, const Worker&) const override {
    float *const mean = mean_.in(a.shared), *const scale = scale_.in(a.shared),
                 *const shift = shift_.in(a.shared);
    if (stage == 0) {
      pattern_.spread(mean, [&](std::int64_t c) { return affine_.mean(a.in, c); });
      pattern_.spread(scale, [&](std::int64_t c) { return affine_.scale(a.in, c); });
      pattern_.spread(shift, [&](std::int64_t c) { return affine_.shift(a.in, c); });
      return;
    }
    const bool stream = affine_.kept < 0 && pattern_.streams(a.out[0]);
    pattern_.each_piece(i, [&](const Piece& piece) {
      affine_.k.apply({affine_.function, stream, piece.runs, mean, scale, shift, pattern_.in(a, 0, piece),
                       pattern_.in(a, affine_.residual, piece), pattern_.out(a, 0, piece),
                       pattern_.out(a, affine_.kept, piece)});
    });
  }

 private:
  Affine affine_;
  Pattern pattern_;
  Range<float> mean_, scale_, shift_;
};

class ApplyInterleaved : public Sliced {
 public:
  explicit ApplyInterleaved(const Problem& p)
      : Sliced(p), affine_(p), c_(p.inputs[0].shape[1]), plane_(geometry_of(p.inputs[0]).channel) {
    for (Range<float>* r : {&mean_, &scale_, &shift_}) *r = own_.add(block());
  }
  void slice(const SliceArgs& a) const override {
    float *const mean = mean_.in(a.own), *const scale = scale_.in(a.own), *const shift = shift_.in(a.own);
    for (std::int64_t c = 0; c < c_; ++c) {
      std::fill_n(mean, block(), affine_.mean(a.in, c));
      std::fill_n(scale, block(), affine_.scale(a.in, c));
      std::fill_n(shift, block(), affine_.shift(a.in, c));
      const auto in = [&](int i) { return i < 0 ? NormIn{} : NormIn{floats(a.in[i]) + c * plane_, block()}; };
      const auto out = [&](int i) {
        return i < 0 ? NormOut{} : NormOut{floats(a.out[i]) + c * plane_, block()};
      };
      affine_.k.apply({affine_.function,
                       false,
                       {1, plane_, 1},
                       mean,
                       scale,
                       shift,
                       in(0),
                       in(affine_.residual),
                       out(0),
                       out(affine_.kept)});
    }
  }

 private:
  Affine affine_;
  std::int64_t c_, plane_;
  Range<float> mean_, scale_, shift_;
};

}  // namespace

const Impl kBatchNormStats[2] = {{"interleaved", unless_plain_in<Layout::kInterleaved>, prepare<Stats>},
                                 {"channels_last", unless_plain_in<Layout::kNHWC>, prepare<Stats>}};

const Impl kBatchNormApply[2] = {
    {"interleaved", unless_plain_in<Layout::kInterleaved, PostKind::kAdd, PostKind::kFunction>,
     prepare<ApplyInterleaved>, true},
    {"channels_last", unless_plain_in<Layout::kNHWC, PostKind::kAdd, PostKind::kFunction>,
     prepare<ApplyChannelsLast>}};

std::unique_ptr<Prepared> prepare_running_statistics(const Problem& p) {
  return prepare<RunningStatistics>(p);
}

}  // namespace fastcnn::ops

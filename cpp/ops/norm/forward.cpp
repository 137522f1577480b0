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
class Affine {
 public:
  explicit Affine(const Problem& p)
      : k_(*p.kernels().norm),
        facts_(facts_of<NormFacts>(p)),
        function_(function_of(p.after)),
        gamma_(own_input(p, 3)),
        beta_(own_input(p, 4)) {
    if (const PostOp* add = find(p.after, PostKind::kAdd)) residual_ = add->in;
    if (const PostOp* f = find(p.after, PostKind::kFunction)) kept_ = f->out;
  }
  // put(k, v) for the numbers of channel c: mean, scale, shift.
  template <class Put>
  void each_number(const void* const* in, std::int64_t c, Put&& put) const {
    const double spread = floats(in[2])[c],
                 rstd = facts_.inference ? 1 / std::sqrt(spread + facts_.eps) : spread;
    put(0, floats(in[1])[c]);
    put(1, static_cast<float>((gamma_ < 0 ? 1.0 : floats(in[gamma_])[c]) * rstd));
    put(2, beta_ < 0 ? 0.0f : floats(in[beta_])[c]);
  }
  // numbers: their patterns, `step` apart. in(i), out(i): the operands, none where i is -1.
  template <class In, class Out>
  void run(const float* numbers, std::int64_t step, const NormRuns& runs, bool stream, In&& in,
           Out&& out) const {
    k_.apply({function_, stream && kept_ < 0, runs, numbers, numbers + step, numbers + 2 * step, in(0),
              in(residual_), out(0), out(kept_)});
  }

 private:
  const NormKernels& k_;
  NormFacts facts_;
  Function function_;
  int gamma_, beta_, residual_ = -1;  // inputs
  int kept_ = -1;                     // output: what the function is applied to
};

class ApplyChannelsLast : public Prepared {
 public:
  explicit ApplyChannelsLast(const Problem& p)
      : affine_(p), pattern_(p), step_(pattern_.pattern_floats()), numbers_(shared_.add(3 * step_)) {
    stages_ = {1, pattern_.items()};
  }
  void item(const RunArgs& a, int stage, std::int64_t i, const Worker&) const override {
    float* const numbers = numbers_.in(a.shared);
    if (stage == 0) {
      for (std::int64_t c = 0; c < pattern_.channels(); ++c)
        affine_.each_number(a.in, c, [&](int k, float v) { pattern_.put(numbers + k * step_, c, v); });
      return;
    }
    const bool stream = pattern_.streams(a.out[0]);
    pattern_.each_piece(i, [&](const Piece& piece) {
      affine_.run(
          numbers, step_, piece.runs, stream, [&](int k) { return pattern_.in(a, k, piece); },
          [&](int k) { return pattern_.out(a, k, piece); });
    });
  }

 private:
  Affine affine_;
  Pattern pattern_;
  std::int64_t step_;
  Range<float> numbers_;
};

class ApplyInterleaved : public Sliced {
 public:
  explicit ApplyInterleaved(const Problem& p)
      : Sliced(p),
        affine_(p),
        c_(p.inputs[0].shape[1]),
        plane_(geometry_of(p.inputs[0]).channel),
        numbers_(own_.add(3 * block())) {}
  void slice(const SliceArgs& a) const override {
    float* const numbers = numbers_.in(a.own);
    for (std::int64_t c = 0; c < c_; ++c) {
      affine_.each_number(a.in, c, [&](int k, float v) { std::fill_n(numbers + k * block(), block(), v); });
      affine_.run(
          numbers, block(), {1, plane_, 1}, false,
          [&](int k) { return k < 0 ? NormIn{} : NormIn{floats(a.in[k]) + c * plane_, block()}; },
          [&](int k) { return k < 0 ? NormOut{} : NormOut{floats(a.out[k]) + c * plane_, block()}; });
    }
  }

 private:
  Affine affine_;
  std::int64_t c_, plane_;
  Range<float> numbers_;
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

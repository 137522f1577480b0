// Runs batch norm backward in two passes: the sums over the batch, then dx. The gradient of the function that
// follows rides on both, what else flows into x on the second.
//
// With g = dy f'(v), xhat = (x - mean) rstd and n values per channel (Ioffe & Szegedy 2015, section 3):
//   dbeta = sum g,  dgamma = sum g xhat,  dx = gamma rstd (g - dbeta / n - xhat dgamma / n)
// In inference mean and rstd are constants: dx = gamma rstd g.
#include <cmath>

#include "ops/norm/moments.h"
#include "ops/norm/pattern.h"

namespace fastcnn::ops {
namespace {

class Backward : public Prepared {
 public:
  explicit Backward(const Problem& p)
      : k_(*p.kernels().norm), facts_(facts_of<NormFacts>(p)), pattern_(p), gamma_(own_input(p, 4)) {
    if (!p.before.empty()) function_ = p.before[0].function, v_ = p.before[0].in, masked_ = p.before[0].out;
    if (!p.after.empty()) add_ = p.after[0].in;
    const bool sums = !facts_.inference || p.wants(1) || p.wants(2) || masked_ >= 0;
    keeps_signs_ = !facts_.inference && function_.kind == FunctionKind::kRelu && masked_ < 0;
    for (Range<float>* r : {&mean_, &scale_, &slope_, &offset_}) *r = shared_.add(pattern_.pattern_floats());
    if (sums) sums_ = shared_.add(pattern_.sum_floats());
    if (keeps_signs_) signs_ = shared_.add<std::uint16_t>(pattern_.vectors());
    stages_ = {1, sums ? pattern_.sum_items() : 0, ceil_div(pattern_.channels(), kJoined),
               p.wants(0) ? pattern_.items() : 0};
  }
  void item(const RunArgs& a, int stage, std::int64_t i, const Worker&) const override {
    if (stage == 1) return sum(a, i);
    if (stage == 2) return join(a, i * kJoined);
    if (stage == 3) return apply(a, i);
    for (std::int64_t c = 0; c < pattern_.channels(); ++c)
      pattern_.put(mean_.in(a.shared), c, floats(a.in[2])[c]);
  }
  std::string detail() const override { return str(pattern_.groups(), " groups"); }

 private:
  std::uint16_t* signs(const RunArgs& a, const Piece& piece) const {
    return keeps_signs_ ? signs_.in(a.shared) + pattern_.vector(piece) : nullptr;
  }
  void sum(const RunArgs& a, std::int64_t item) const {
    const bool stream = masked_ >= 0 && pattern_.streams(a.out[masked_]);
    pattern_.each_part(item, sums_.in(a.shared), [&](const Piece& piece, float* sum_g, float* sum_gx) {
      k_.grad_sums({function_, piece.runs, mean_.in(a.shared) + pattern_.at(piece), pattern_.in(a, 0, piece),
                    pattern_.in(a, v_, piece), pattern_.in(a, 1, piece), pattern_.out(a, masked_, piece),
                    stream, signs(a, piece), sum_g, sum_gx});
    });
  }
  void join(const RunArgs& a, std::int64_t first) const {
    const std::int64_t channels = std::min(kJoined, pattern_.channels() - first);
    double sum_g[kJoined] = {}, sum_gx[kJoined] = {};  // of g and g (x - mean)
    if (stages_[1] > 0)
      pattern_.each_sum(first, sums_.in(a.shared),
                        [&](std::int64_t, const float* g, const float* gx, std::int64_t step) {
                          for (std::int64_t k = 0; k < channels; ++k)
                            sum_g[k] += g[k * step], sum_gx[k] += gx[k * step];
                        });
    for (std::int64_t k = 0; k < channels; ++k) finish(a, first + k, sum_g[k], sum_gx[k]);
  }
  void finish(const RunArgs& a, std::int64_t c, double sum_g, double sum_gx) const {
    const double spread = floats(a.in[3])[c];
    const double rstd = facts_.inference ? 1 / std::sqrt(spread + facts_.eps) : spread;
    const double dgamma = sum_gx * rstd, scale = (gamma_ < 0 ? 1.0 : floats(a.in[gamma_])[c]) * rstd;
    if (a.out[1]) floats(a.out[1])[c] = static_cast<float>(dgamma);
    if (a.out[2]) floats(a.out[2])[c] = static_cast<float>(sum_g);
    const auto count = static_cast<double>(pattern_.values());
    pattern_.put(scale_.in(a.shared), c, static_cast<float>(scale));
    pattern_.put(slope_.in(a.shared), c, static_cast<float>(scale * rstd * dgamma / count));
    pattern_.put(offset_.in(a.shared), c, static_cast<float>(scale * sum_g / count));
  }
  void apply(const RunArgs& a, std::int64_t item) const {
    const bool stream = add_ < 0 && pattern_.streams(a.out[0]);
    pattern_.each_piece(item, [&](const Piece& piece) {
      const std::int64_t at = pattern_.at(piece);
      const NormOut masked = pattern_.out(a, masked_, piece);
      const bool done = masked.at != nullptr;  // g is there already
      k_.grad_apply({done ? Function{} : function_, stream, piece.runs, mean_.in(a.shared) + at,
                     scale_.in(a.shared) + at, facts_.inference ? nullptr : slope_.in(a.shared) + at,
                     offset_.in(a.shared) + at,
                     done ? NormIn{masked.at, masked.step} : pattern_.in(a, 0, piece),
                     pattern_.in(a, v_, piece), pattern_.in(a, 1, piece), pattern_.in(a, add_, piece),
                     signs(a, piece), pattern_.out(a, 0, piece)});
    });
  }

  const NormKernels& k_;
  NormFacts facts_;
  Pattern pattern_;
  Function function_;
  int gamma_, v_ = -1, add_ = -1;  // inputs
  int masked_ = -1;                // output
  bool keeps_signs_;               // the second pass reads one bit per value instead of v
  Range<float> mean_, scale_, slope_, offset_, sums_;
  Range<std::uint16_t> signs_;
};

template <Layout kLayout>
std::string declines(const Problem& p) {
  return first_of(unless_in(p, kLayout), unless_in_order(p.before, {PostKind::kFunctionGrad}),
                  unless_in_order(p.after, {PostKind::kAdd}));
}

}  // namespace

const Impl kBatchNormBackward[2] = {{"interleaved", declines<Layout::kInterleaved>, prepare<Backward>},
                                    {"channels_last", declines<Layout::kNHWC>, prepare<Backward>}};

}  // namespace fastcnn::ops

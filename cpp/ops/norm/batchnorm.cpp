// Batch norm: checks, shapes, backward rules. forward.cpp and backward.cpp run it.
#include "ops/norm/batchnorm.h"

#include <cmath>

#include "ops/checks.h"
#include "ops/registry.h"

namespace fastcnn::ops {
namespace {

void expect_eps(const Attrs& attrs) {
  const double eps = attrs.number("eps", 1e-5);
  check(eps >= 0 && std::isfinite(eps), "expected eps of at least 0, got ", eps);
}

// The per-channel operands from `first` on, by name; those past `required` may be absent.
void expect_channels(const std::vector<TensorDesc>& in, std::size_t first, std::size_t required,
                     std::initializer_list<const char*> names, const TensorDesc& x) {
  std::size_t i = first;
  for (const char* name : names) {
    if (i >= in.size() || in[i].absent)
      check(i >= required, "expected ", name, ", got none");
    else
      expect_vector(in[i], name, x.shape[1], x);
    ++i;
  }
}

// x passes through statistics of the whole batch.
void expect_many(const Shape& x) {
  const NormFacts f = norm_facts(x);
  check(f.count() > 1, "expected more than one value per channel to normalise over, got input ", x);
}

std::vector<ValueId> spread_gradients(const Call& call, const std::vector<ValueId>& dx_dgamma_dbeta) {
  std::vector<ValueId> grads(call.inputs.size(), kNoValue);
  const std::size_t from[] = {0, 3, 4};
  for (std::size_t i = 0; i < 3; ++i)
    if (from[i] < grads.size() && call.inputs[from[i]] != kNoValue && call.needs[from[i]])
      grads[from[i]] = dx_dgamma_dbeta[i];
  return grads;
}

class Stats : public OpDef {
 public:
  const char* name() const override { return "batch_norm_stats"; }
  std::vector<TensorDesc> infer(const Attrs& attrs, const std::vector<TensorDesc>& in) const override {
    expect_inputs(in, 3, 3, "input, running_mean and running_var");
    expect_eps(attrs);
    const double momentum = attrs.number("momentum", 0.1);
    check(momentum >= 0 && momentum <= 1, "expected momentum between 0 and 1, got ", momentum);
    expect_batch(in[0], "input");
    expect_channels(in, 1, 3, {"running_mean", "running_var"}, in[0]);
    expect_many(in[0].shape);
    return {plain_desc({in[0].shape[1]}), plain_desc({in[0].shape[1]})};
  }
  bool batched_input(int i) const override { return i == 0; }
  bool updates(int i) const override { return i > 0; }
  const std::vector<Impl>& implementations() const override {
    static const std::vector<Impl> list = batch_norm_stats_list();
    return list;
  }
  // The statistics' part of the gradient is in batch_norm_backward.
  std::vector<ValueId> backward(GradBuilder&, const Call& call, const std::vector<ValueId>&) const override {
    return std::vector<ValueId>(call.inputs.size(), kNoValue);
  }
  Cost cost(const Problem& p) const override {
    return {4.0 * static_cast<double>(p.inputs[0].shape.numel())};
  }
  Role role(const Attrs&) const override { return Role::kStatistics; }
};

template <bool kInference>
class Apply : public OpDef {
 public:
  const char* name() const override { return kInference ? "batch_norm_inference" : "batch_norm_apply"; }
  std::vector<TensorDesc> infer(const Attrs& attrs, const std::vector<TensorDesc>& in) const override {
    if (kInference)
      expect_inputs(in, 3, 5, "input, running_mean, running_var, gamma and beta");
    else
      expect_inputs(in, 3, 5, "input, mean, rstd, gamma and beta");
    if (kInference) expect_eps(attrs);
    expect_batch(in[0], "input");
    if (kInference)
      expect_channels(in, 1, 3, {"running_mean", "running_var", "gamma", "beta"}, in[0]);
    else
      expect_channels(in, 1, 3, {"mean", "rstd", "gamma", "beta"}, in[0]);
    return {batched_desc(in[0].shape)};
  }
  bool batched_input(int i) const override { return i == 0; }
  const std::vector<Impl>& implementations() const override {
    static const std::vector<Impl> list = batch_norm_apply_list(kInference);
    return list;
  }
  std::vector<ValueId> backward(GradBuilder& g, const Call& call,
                                const std::vector<ValueId>& dy) const override {
    if (dy[0] == kNoValue) return std::vector<ValueId>(call.inputs.size(), kNoValue);
    const ValueId gamma = call.inputs.size() > 3 ? call.inputs[3] : kNoValue;
    return spread_gradients(
        call, g.add(kInference ? "batch_norm_inference_backward" : "batch_norm_backward",
                    {dy[0], call.inputs[0], call.inputs[1], call.inputs[2], gamma}, call.attrs));
  }
  Cost cost(const Problem& p) const override {
    const double per_element = 3.0 + p.fusion.add + (p.fusion.activation != Activation::kNone);
    return {per_element * static_cast<double>(p.outputs[0].shape.numel())};
  }
  Role role(const Attrs&) const override { return kInference ? Role::kChannelAffine : Role::kNone; }
  bool absorbs(Role role, const Fusion& f, const Attrs&) const override {
    if (f.activation != Activation::kNone) return false;
    return role == Role::kActivation || (role == Role::kAdd && !f.add);
  }
  int in_place(const Problem&) const override { return 0; }
};

template <bool kInference>
class Backward : public OpDef {
 public:
  const char* name() const override {
    return kInference ? "batch_norm_inference_backward" : "batch_norm_backward";
  }
  std::vector<TensorDesc> infer(const Attrs& attrs, const std::vector<TensorDesc>& in) const override {
    expect_inputs(in, 4, 5, "output gradient, input, mean, deviation and gamma");
    if (kInference) expect_eps(attrs);
    expect_batch(in[0], "output gradient");
    expect_shape(in[1], "input", in[0].shape, "the output's gradient");
    if (kInference)
      expect_channels(in, 2, 4, {"running_mean", "running_var", "gamma"}, in[1]);
    else
      expect_channels(in, 2, 4, {"mean", "rstd", "gamma"}, in[1]);
    if (!kInference) expect_many(in[1].shape);
    const TensorDesc vector = plain_desc({in[1].shape[1]});
    return {batched_desc(in[1].shape), vector, vector};
  }
  bool batched_input(int i) const override { return i < 2; }
  const std::vector<Impl>& implementations() const override {
    static const std::vector<Impl> list = batch_norm_backward_list(kInference);
    return list;
  }
  Cost cost(const Problem& p) const override {
    const double per_element = 8.0 + 2.0 * (p.fusion.act_grad != Activation::kNone);
    return {per_element * static_cast<double>(p.outputs[0].shape.numel())};
  }
  bool absorbs(Role role, const Fusion& f, const Attrs&) const override {
    return role == Role::kActivationGrad && f.empty();
  }
  int in_place(const Problem&) const override { return 0; }
};

}  // namespace

NormFacts norm_facts(const Shape& x) { return {x[0], x[1], x.rank() == 4 ? x[2] * x[3] : 1}; }

void StatisticsOut::write(std::int64_t c, double count, double mean_of_c, double m2) const {
  const double biased = count > 0 ? m2 / count : 0;
  mean[c] = static_cast<float>(count > 0 ? mean_of_c : 0);
  rstd[c] = static_cast<float>(1 / std::sqrt(biased + eps));
  if (count <= 0) return;  // an empty batch moves nothing
  const auto step = [this](float& running, double now) {
    running = static_cast<float>((1 - momentum) * running + momentum * now);
  };
  if (running_mean) step(running_mean[c], mean_of_c);
  if (running_var) step(running_var[c], count > 1 ? m2 / (count - 1) : biased);
}

void register_batchnorm(Registry& r) {
  static const Stats stats;
  static const Apply<false> apply;
  static const Apply<true> inference;
  static const Backward<false> backward;
  static const Backward<true> inference_backward;
  for (const OpDef* op :
       std::initializer_list<const OpDef*>{&stats, &apply, &inference, &backward, &inference_backward})
    r.add(*op);
}

}  // namespace fastcnn::ops

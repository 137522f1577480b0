// Batch norm: checks, shapes, backward rules. forward.cpp and backward.cpp run it.
#include "ops/norm/batchnorm.h"

#include <cmath>

#include "ops/registry.h"

namespace fastcnn::ops {
namespace {

std::vector<Impl> list(const Impl (&of)[2]) { return {of[0], of[1]}; }

const AttrSpec kEps = {"eps", AttrKind::kNumber, 1e-5};

std::shared_ptr<const Facts> norm_facts(bool inference, const Attrs& attrs) {
  auto facts = std::make_shared<NormFacts>();
  facts->inference = inference;
  if (attrs.has("eps")) facts->eps = attrs.number("eps");
  check(facts->eps >= 0 && std::isfinite(facts->eps), "expected eps of at least 0, got ", facts->eps);
  return facts;
}

// The per-channel operands from `first` on: the statistics, gamma and beta, which may be absent.
void expect_channels(const std::vector<TensorDesc>& in, std::size_t first, bool inference,
                     const TensorDesc& x) {
  const char* const names[] = {inference ? "running_mean" : "mean", inference ? "running_var" : "rstd",
                               "gamma", "beta"};
  for (std::size_t k = 0; k < 4; ++k) {
    const std::size_t i = first + k;
    if (i < in.size() && !in[i].absent)
      expect_vector(in[i], names[k], x.shape[1], x);
    else
      check(k >= 2, "expected ", names[k], ", got none");
  }
}

// x passes through statistics of the whole batch.
void expect_many(const TensorDesc& x) {
  const Geometry g = geometry_of(x);
  check(g.n * g.pixels() > 1, "expected more than one value per channel to normalise over, got input ",
        x.shape);
}

Cost cost_of(const Problem& p, double own) {
  for (const PostOp& post : p.before) own += row_of(post.function.kind).gradient_flops;
  for (const PostOp& post : p.after) own += post.function ? row_of(post.function.kind).flops : 1;
  return {own * static_cast<double>(p.inputs[0].shape.numel())};
}

class Stats : public OpDef {
 public:
  Stats() : OpDef("batch_norm_stats", {kEps}, list(kBatchNormStats)) {}
  Inferred infer(const Attrs& attrs, const std::vector<TensorDesc>& in) const override {
    expect_inputs(in, 1, 1, "one input");
    expect_batch(in[0], "input");
    expect_many(in[0]);
    const std::int64_t c = in[0].shape[1];
    return {{plain_desc({c}), plain_desc({c}), plain_desc({2, c}, DType::kFloat64)},
            norm_facts(false, attrs)};
  }
  bool optional_output(int) const override { return true; }
  // The statistics' part of the gradient is in batch_norm_backward.
  ValueIds backward(GradBuilder&, const Call&, const ValueIds&) const override { return {kNoValue}; }
  Cost cost(const Problem& p) const override { return cost_of(p, 4); }
  PostOp as_post(const Facts* facts) const override {
    PostOp post;
    post.kind = PostKind::kStatistics, post.eps = static_cast<const NormFacts*>(facts)->eps;
    return post;
  }
};

// running_statistics(running_mean, running_var, moments) moves the running buffers by what batch_norm_stats
// found in `count` values per channel.
class RunningStatistics : public OpDef {
 public:
  RunningStatistics()
      : OpDef("running_statistics",
              {{"momentum", AttrKind::kNumber, 0.1}, {"count", AttrKind::kInteger, std::nullopt, true}},
              {{"plain", unless_no_posts, prepare_running_statistics}}, 0) {}
  Inferred infer(const Attrs& attrs, const std::vector<TensorDesc>& in) const override {
    expect_inputs(in, 3, 3, "running_mean, running_var and moments");
    auto facts = std::make_shared<RunningFacts>();
    facts->momentum = attrs.number("momentum"), facts->count = attrs.integer("count");
    check(facts->momentum >= 0 && facts->momentum <= 1, "expected momentum between 0 and 1, got ",
          facts->momentum);
    check(facts->count >= 0, "expected a count of at least 0, got ", facts->count);
    expect_float(in[0], "running_mean");
    check(in[2].dtype == DType::kFloat64 && in[2].shape.rank() == 2 && in[2].shape[0] == 2,
          "expected float64 moments (2, C), got ", name_of(in[2].dtype), " ", in[2].shape);
    expect_shape(in[0], "running_mean", {in[2].shape[1]}, "the input's channels");
    expect_shape(in[1], "running_var", {in[2].shape[1]}, "the input's channels");
    return {{}, facts};
  }
  bool batched_input(int) const override { return false; }
  bool updates(int input) const override { return input < 2; }
  ValueIds backward(GradBuilder&, const Call&, const ValueIds&) const override {
    return {kNoValue, kNoValue, kNoValue};
  }
};

template <bool kInference>
class Apply : public OpDef {
 public:
  Apply()
      : OpDef(kInference ? "batch_norm_inference" : "batch_norm_apply",
              kInference ? std::vector<AttrSpec>{kEps} : std::vector<AttrSpec>{}, list(kBatchNormApply)) {}
  Inferred infer(const Attrs& attrs, const std::vector<TensorDesc>& in) const override {
    expect_inputs(in, 3, 5,
                  kInference ? "input, running_mean, running_var, gamma and beta"
                             : "input, mean, rstd, gamma and beta");
    expect_batch(in[0], "input");
    expect_channels(in, 1, kInference, in[0]);
    return {{batched_desc(in[0].shape)}, norm_facts(kInference, attrs)};
  }
  bool batched_input(int i) const override { return i == 0; }
  ValueIds backward(GradBuilder& g, const Call& call, const ValueIds& dy) const override {
    ValueIds grads(call.inputs.size(), kNoValue);
    if (dy[0] == kNoValue) return grads;
    const ValueId gamma = call.inputs.size() > 3 ? call.inputs[3] : kNoValue;
    const auto of = g.add(kInference ? "batch_norm_inference_backward" : "batch_norm_backward",
                          {dy[0], call.inputs[0], call.inputs[1], call.inputs[2], gamma}, call.attrs);
    const std::size_t to[] = {0, 3, 4};
    for (std::size_t i = 0; i < 3; ++i)
      if (to[i] < grads.size() && call.inputs[to[i]] != kNoValue && call.needs[to[i]]) grads[to[i]] = of[i];
    return grads;
  }
  Cost cost(const Problem& p) const override { return cost_of(p, 3); }
  bool cheap_to_repeat() const override { return true; }
  ChannelAffine channel_affine(const Facts* facts) const override {
    if (!kInference) return {};
    return {1, 2, 3, 4, static_cast<const NormFacts*>(facts)->eps};
  }
  int in_place(const Problem&) const override { return 0; }
};

template <bool kInference>
class Backward : public OpDef {
 public:
  Backward()
      : OpDef(kInference ? "batch_norm_inference_backward" : "batch_norm_backward",
              kInference ? std::vector<AttrSpec>{kEps} : std::vector<AttrSpec>{}, list(kBatchNormBackward)) {}
  Inferred infer(const Attrs& attrs, const std::vector<TensorDesc>& in) const override {
    expect_inputs(in, 4, 5, "output gradient, input, mean, deviation and gamma");
    expect_batch(in[0], "output gradient");
    expect_shape(in[1], "input", in[0].shape, "the output's gradient");
    expect_channels(in, 2, kInference, in[1]);
    if (!kInference) expect_many(in[1]);
    const TensorDesc vector = plain_desc({in[1].shape[1]});
    return {{batched_desc(in[1].shape), vector, vector}, norm_facts(kInference, attrs)};
  }
  bool batched_input(int i) const override { return i < 2; }
  bool optional_output(int i) const override { return i < 3; }
  Cost cost(const Problem& p) const override { return cost_of(p, 8); }
  int in_place(const Problem&) const override { return 0; }
};

}  // namespace

void register_norm(Registry& r) {
  r.add<Stats>();
  r.add<RunningStatistics>();
  r.add<Apply<false>>();
  r.add<Apply<true>>();
  r.add<Backward<false>>();
  r.add<Backward<true>>();
}

}  // namespace fastcnn::ops

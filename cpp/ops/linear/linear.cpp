// linear (y = x W^T + b) and its two backward ops: checks, shapes, backward rule, lists of implementations.
#include "ops/linear/linear.h"

#include "ops/checks.h"
#include "ops/registry.h"

namespace fastcnn::ops {
namespace {

void check_matrix(const TensorDesc& d, const char* what, const char* dims) {
  expect_float(d, what);
  check(d.shape.rank() == 2, "expected ", what, " of 2 dimensions ", dims, ", got ", d.shape.rank(), " (",
        what, " ", d.shape, ")");
}

void check_weight(const TensorDesc& w) {
  check_matrix(w, "weight", "(out features, in features)");
  check(w.shape[0] >= 1 && w.shape[1] >= 1, "expected weight without empty dimensions, got ", w.shape);
}

// Measured shares of the FMA peak; few images or features are bound by memory, which the caller knows.
Cost linear_cost(const Problem& p, const LinearParams& q) {
  return {2.0 * q.macs(), p.inputs[0].layout == Layout::kInterleaved ? 0.85 : 0.7};
}

std::vector<Impl> join(LinearDirection d) {
  std::vector<Impl> all;
  for (const auto& part : {linear_interleaved(d), linear_plain(d)})
    all.insert(all.end(), part.begin(), part.end());
  return all;
}

class Linear : public OpDef {
 public:
  const char* name() const override { return "linear"; }
  bool batched_input(int i) const override { return i == 0; }
  std::vector<TensorDesc> infer(const Attrs&, const std::vector<TensorDesc>& in) const override {
    expect_inputs(in, 2, 3, "input, weight and an optional bias");
    const LinearParams p = linear_forward_params(in);
    if (in.size() > 2 && !in[2].absent) {
      expect_float(in[2], "bias");
      check(in[2].shape == Shape{p.out}, "expected a bias of ", p.out, " elements, got ", in[2].shape,
            " (weight ", in[1].shape, ")");
    }
    return {batched_desc({p.n, p.out})};
  }
  const std::vector<Impl>& implementations() const override {
    static const std::vector<Impl> list = join(LinearDirection::kForward);
    return list;
  }
  std::vector<ValueId> backward(GradBuilder& g, const Call& call,
                                const std::vector<ValueId>& dy) const override {
    std::vector<ValueId> grads(call.inputs.size(), kNoValue);
    if (dy[0] == kNoValue) return grads;
    if (call.needs[0]) grads[0] = g.add("linear_backward_data", {dy[0], call.inputs[1]}, {})[0];
    const bool bias = call.inputs.size() > 2 && call.inputs[2] != kNoValue && call.needs[2];
    if (call.needs[1] || bias) {
      const auto dw_db = g.add("linear_backward_weights", {call.inputs[0], dy[0]}, {});
      if (call.needs[1]) grads[1] = dw_db[0];
      if (bias) grads[2] = dw_db[1];
    }
    return grads;
  }
  Cost cost(const Problem& p) const override { return linear_cost(p, linear_forward_params(p.inputs)); }
  bool absorbs(Role role, const Fusion& so_far, const Attrs&) const override {
    return role == Role::kActivation && so_far.empty();
  }
};

class LinearBackwardData : public OpDef {
 public:
  const char* name() const override { return "linear_backward_data"; }
  bool batched_input(int i) const override { return i == 0; }
  std::vector<TensorDesc> infer(const Attrs&, const std::vector<TensorDesc>& in) const override {
    expect_inputs(in, 2, 2, "output gradient and weight");
    const LinearParams p = linear_backward_data_params(in);
    return {batched_desc({p.n, p.in})};
  }
  const std::vector<Impl>& implementations() const override {
    static const std::vector<Impl> list = join(LinearDirection::kBackwardData);
    return list;
  }
  Cost cost(const Problem& p) const override { return linear_cost(p, linear_backward_data_params(p.inputs)); }
};

class LinearBackwardWeights : public OpDef {
 public:
  const char* name() const override { return "linear_backward_weights"; }
  bool batched_input(int i) const override { return i < 2; }
  std::vector<TensorDesc> infer(const Attrs&, const std::vector<TensorDesc>& in) const override {
    expect_inputs(in, 2, 2, "input and output gradient");
    const LinearParams p = linear_backward_weights_params(in);
    return {plain_desc({p.out, p.in}), plain_desc({p.out})};
  }
  const std::vector<Impl>& implementations() const override {
    static const std::vector<Impl> list = join(LinearDirection::kBackwardWeights);
    return list;
  }
  Cost cost(const Problem& p) const override {
    return linear_cost(p, linear_backward_weights_params(p.inputs));
  }
};

}  // namespace

double LinearParams::macs() const {
  return static_cast<double>(n) * static_cast<double>(in) * static_cast<double>(out);
}

LinearParams linear_forward_params(const std::vector<TensorDesc>& in) {
  check_matrix(in[0], "input", "(N, features)");
  check_weight(in[1]);
  const Shape &x = in[0].shape, &w = in[1].shape;
  check(x[1] == w[1], "expected ", w[1], " input features, got ", x[1], " (input ", x, ", weight ", w, ")");
  checked_product(x[0], w[0]);
  return {x[0], w[1], w[0]};
}

LinearParams linear_backward_data_params(const std::vector<TensorDesc>& in) {
  check_matrix(in[0], "output gradient", "(N, features)");
  check_weight(in[1]);
  const Shape &dy = in[0].shape, &w = in[1].shape;
  check(dy[1] == w[0], "expected an output gradient of ", w[0], " features, got ", dy[1],
        " (output gradient ", dy, ", weight ", w, ")");
  checked_product(dy[0], w[1]);
  return {dy[0], w[1], w[0]};
}

LinearParams linear_backward_weights_params(const std::vector<TensorDesc>& in) {
  check_matrix(in[0], "input", "(N, features)");
  check_matrix(in[1], "output gradient", "(N, features)");
  const Shape &x = in[0].shape, &dy = in[1].shape;
  check(x[0] == dy[0], "expected an output gradient of ", x[0], " rows, got ", dy[0], " (input ", x,
        ", output gradient ", dy, ")");
  check(x[1] >= 1 && dy[1] >= 1, "expected at least one feature, got input ", x, ", output gradient ", dy);
  checked_product(x[1], dy[1]);
  return {x[0], x[1], dy[1]};
}

void register_linear(Registry& r) {
  static const Linear forward;
  static const LinearBackwardData backward_data;
  static const LinearBackwardWeights backward_weights;
  r.add(forward);
  r.add(backward_data);
  r.add(backward_weights);
}

}  // namespace fastcnn::ops

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

// Of operands (rows, weight): the rows have as many features as the weight has along `axis`.
std::shared_ptr<const LinearParams> params_with_weight(const std::vector<TensorDesc>& in, const char* rows,
                                                       int axis) {
  check_matrix(in[0], rows, "(N, features)");
  check_matrix(in[1], "weight", "(out features, in features)");
  const Shape &x = in[0].shape, &w = in[1].shape;
  check(w[0] >= 1 && w[1] >= 1, "expected weight without empty dimensions, got ", w);
  if (axis == 1)
    check(x[1] == w[1], "expected ", w[1], " input features, got ", x[1], " (input ", x, ", weight ", w, ")");
  else
    check(x[1] == w[0], "expected an output gradient of ", w[0], " features, got ", x[1],
          " (output gradient ", x, ", weight ", w, ")");
  checked_product(x[0], w[1 - axis]);
  return std::make_shared<LinearParams>(x[0], w[1], w[0]);
}

class LinearOp : public OpDef {
 public:
  LinearOp(const char* name, std::vector<Impl> cpu) : OpDef(name, {}, std::move(cpu)) {}
  bool batched_input(int i) const override { return i == 0; }
  // Measured shares of the FMA peak; few images or features are bound by memory, which the caller knows.
  Cost cost(const Problem& p) const override {
    const auto& q = facts_of<LinearParams>(p);
    return {2.0 * static_cast<double>(q.n) * static_cast<double>(q.in) * static_cast<double>(q.out),
            p.inputs[0].layout == Layout::kInterleaved ? 0.85 : 0.7};
  }
};

class Linear : public LinearOp {
 public:
  Linear() : LinearOp("linear", {kLinearForwardBlocks, kLinearForwardRows, kLinearForwardPanels}) {}
  Inferred infer(const Attrs&, const std::vector<TensorDesc>& in) const override {
    expect_inputs(in, 2, 3, "input, weight and an optional bias");
    const auto q = params_with_weight(in, "input", 1);
    expect_bias(in, q->out);
    return {{batched_desc({q->n, q->out})}, q};
  }
  ValueIds backward(GradBuilder& g, const Call& call, const ValueIds& dy) const override {
    return weighted_gradients(g, call, dy[0], "linear_backward_data", {}, "linear_backward_weights", {});
  }
};

class LinearBackwardData : public LinearOp {
 public:
  LinearBackwardData() : LinearOp("linear_backward_data", {kLinearDataBlocks, kLinearDataRows}) {}
  Inferred infer(const Attrs&, const std::vector<TensorDesc>& in) const override {
    expect_inputs(in, 2, 2, "output gradient and weight");
    const auto q = params_with_weight(in, "output gradient", 0);
    return {{batched_desc({q->n, q->in})}, q};
  }
};

class LinearBackwardWeights : public LinearOp {
 public:
  LinearBackwardWeights() : LinearOp("linear_backward_weights", {kLinearWeightsBlocks, kLinearWeightsRows}) {}
  bool batched_input(int) const override { return true; }
  bool optional_output(int) const override { return true; }
  Inferred infer(const Attrs&, const std::vector<TensorDesc>& in) const override {
    expect_inputs(in, 2, 2, "input and output gradient");
    check_matrix(in[0], "input", "(N, features)");
    check_matrix(in[1], "output gradient", "(N, features)");
    const Shape &x = in[0].shape, &dy = in[1].shape;
    check(x[0] == dy[0], "expected an output gradient of ", x[0], " rows, got ", dy[0], " (input ", x,
          ", output gradient ", dy, ")");
    check(x[1] >= 1 && dy[1] >= 1, "expected at least one feature, got input ", x, ", output gradient ", dy);
    checked_product(x[1], dy[1]);
    return {{plain_desc({dy[1], x[1]}), plain_desc({dy[1]})},
            std::make_shared<LinearParams>(x[0], x[1], dy[1])};
  }
};

}  // namespace

void register_linear(Registry& r) {
  r.add<Linear>();
  r.add<LinearBackwardData>();
  r.add<LinearBackwardWeights>();
}

}  // namespace fastcnn::ops

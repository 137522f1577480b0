// relu, tanh, sigmoid and their common backward op, which needs only the output.
#include "kernels/pointwise.h"
#include "ops/pointwise/flat.h"
#include "ops/registry.h"

namespace fastcnn::ops {
namespace {

Activation activation_named(const std::string& name) {
  if (name == "relu") return Activation::kRelu;
  if (name == "tanh") return Activation::kTanh;
  if (name == "sigmoid") return Activation::kSigmoid;
  throw ValueError(str("kind: expected relu, tanh or sigmoid, got '", name, "'"));
}

// Vector instructions per element do not depend on it much; this is what plan.describe() counts.
double flops_per_element(Activation a) { return a == Activation::kRelu ? 1 : 20; }

struct Activate {
  Act act;
  void operator()(const float* const* in, float* const* out, std::int64_t n) const {
    kernels().pointwise->activate(act, in[0], out[0], n);
  }
};

struct ActivateGrad {
  Act act;
  void operator()(const float* const* in, float* const* out, std::int64_t n) const {
    kernels().pointwise->activate_grad(act, in[0], in[1], out[0], n);
  }
};

class ActivationOp : public OpDef {
 public:
  ActivationOp(const char* name, Activation kind) : name_(name), kind_(kind) {}
  const char* name() const override { return name_; }
  std::vector<TensorDesc> infer(const Attrs&, const std::vector<TensorDesc>& in) const override {
    expect_inputs(in, 1, 1, "one input");
    expect_float(in[0], "input");
    return {like(in[0])};
  }
  bool batched_input(int) const override { return true; }
  const std::vector<Impl>& implementations() const override {
    // One list per kind: prepare() is told the problem, not the op.
    static const std::vector<Impl> relu = list<Activation::kRelu>(), tanh = list<Activation::kTanh>(),
                                   sigmoid = list<Activation::kSigmoid>();
    return kind_ == Activation::kRelu ? relu : kind_ == Activation::kTanh ? tanh : sigmoid;
  }
  std::vector<ValueId> backward(GradBuilder& g, const Call& call,
                                const std::vector<ValueId>& dy) const override {
    if (dy[0] == kNoValue || !call.needs[0]) return {kNoValue};
    return {g.add("activation_backward", {dy[0], call.outputs[0]}, {{"kind", std::string(name_)}})[0]};
  }
  Cost cost(const Problem& p) const override {
    return {flops_per_element(kind_) * static_cast<double>(p.outputs[0].shape.numel())};
  }
  Role role(const Attrs&) const override { return Role::kActivation; }
  Activation activation(const Attrs&) const override { return kind_; }
  int in_place(const Problem&) const override { return 0; }

 private:
  template <Activation kKind>
  static std::vector<Impl> list() {
    return {{"flat", unless_alike, [](const Problem& p) { return make_flat(p, Activate{act_of(kKind)}); }}};
  }
  const char* name_;
  Activation kind_;
};

class ActivationBackward : public OpDef {
 public:
  const char* name() const override { return "activation_backward"; }
  std::vector<TensorDesc> infer(const Attrs& attrs, const std::vector<TensorDesc>& in) const override {
    expect_inputs(in, 2, 2, "the output's gradient and the output");
    activation_named(attrs.text("kind", "relu"));
    expect_float(in[0], "output gradient");
    expect_shape(in[1], "output", in[0].shape, "its gradient");
    return {like(in[0])};
  }
  bool batched_input(int) const override { return true; }
  const std::vector<Impl>& implementations() const override {
    static const std::vector<Impl> list = {{"flat", unless_alike, [](const Problem& p) {
                                              const auto kind =
                                                  activation_named(p.attrs.text("kind", "relu"));
                                              return make_flat(p, ActivateGrad{act_of(kind)});
                                            }}};
    return list;
  }
  Cost cost(const Problem& p) const override {
    return {(activation(p.attrs) == Activation::kRelu ? 1 : 3) *
            static_cast<double>(p.outputs[0].shape.numel())};
  }
  Role role(const Attrs&) const override { return Role::kActivationGrad; }
  Activation activation(const Attrs& attrs) const override {
    return activation_named(attrs.text("kind", "relu"));
  }
  int in_place(const Problem&) const override { return 0; }
};

}  // namespace

void register_activation(Registry& r) {
  static const ActivationOp relu("relu", Activation::kRelu), tanh("tanh", Activation::kTanh),
      sigmoid("sigmoid", Activation::kSigmoid);
  static const ActivationBackward backward;
  for (const OpDef* op : std::initializer_list<const OpDef*>{&relu, &tanh, &sigmoid, &backward}) r.add(*op);
}

}  // namespace fastcnn::ops

// add (with the activation that follows it) and scale by one number.
#include "kernels/pointwise.h"
#include "ops/pointwise/flat.h"
#include "ops/registry.h"

namespace fastcnn::ops {
namespace {

struct AddKernel {
  Act act;
  void operator()(const float* const* in, float* const* out, std::int64_t n) const {
    kernels().pointwise->add(act, in[0], in[1], out[0], n);
  }
};

struct ScaleKernel {
  void operator()(const float* const* in, float* const* out, std::int64_t n) const {
    kernels().pointwise->scale(in[0], *in[1], out[0], n);
  }
};

class Add : public OpDef {
 public:
  const char* name() const override { return "add"; }
  std::vector<TensorDesc> infer(const Attrs&, const std::vector<TensorDesc>& in) const override {
    expect_inputs(in, 2, 2, "two inputs");
    expect_float(in[0], "first input");
    expect_float(in[1], "second input");
    check(in[0].shape == in[1].shape, "expected two inputs of one shape, got ", in[0].shape, " and ",
          in[1].shape);
    return {like(in[0])};
  }
  bool batched_input(int) const override { return true; }
  const std::vector<Impl>& implementations() const override {
    static const std::vector<Impl> list = {{"flat", unless_alike, [](const Problem& p) {
                                              return make_flat(p, AddKernel{act_of(p.fusion.activation)});
                                            }}};
    return list;
  }
  std::vector<ValueId> backward(GradBuilder&, const Call& call,
                                const std::vector<ValueId>& dy) const override {
    return {call.needs[0] ? dy[0] : kNoValue, call.needs[1] ? dy[0] : kNoValue};
  }
  Role role(const Attrs&) const override { return Role::kAdd; }
  bool absorbs(Role role, const Fusion& f, const Attrs&) const override {
    return role == Role::kActivation && f.empty();
  }
  int in_place(const Problem&) const override { return 0; }
};

class Scale : public OpDef {
 public:
  const char* name() const override { return "scale"; }
  std::vector<TensorDesc> infer(const Attrs&, const std::vector<TensorDesc>& in) const override {
    expect_inputs(in, 2, 2, "an input and a factor");
    expect_float(in[0], "input");
    expect_float(in[1], "factor");
    check(in[1].shape.numel() == 1, "expected a factor of one element, got ", in[1].shape);
    return {like(in[0])};
  }
  bool batched_input(int i) const override { return i == 0; }
  const std::vector<Impl>& implementations() const override {
    static const std::vector<Impl> list = {
        {"flat", unless_alike, [](const Problem& p) { return make_flat(p, ScaleKernel{}); }}};
    return list;
  }
  // The factor is a constant of the caller's: only x has a gradient.
  std::vector<ValueId> backward(GradBuilder& g, const Call& call,
                                const std::vector<ValueId>& dy) const override {
    if (call.needs[1]) throw ValueError("has no gradient for its factor");
    if (dy[0] == kNoValue || !call.needs[0]) return {kNoValue, kNoValue};
    return {g.add("scale", {dy[0], call.inputs[1]}, {})[0], kNoValue};
  }
  int in_place(const Problem&) const override { return 0; }
};

}  // namespace

void register_elementwise(Registry& r) {
  static const Add add;
  static const Scale scale;
  r.add(add);
  r.add(scale);
}

}  // namespace fastcnn::ops

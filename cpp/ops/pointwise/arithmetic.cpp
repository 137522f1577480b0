// add (with the function that follows it) and scale by one number.
#include "ops/pointwise/flat.h"
#include "ops/registry.h"

namespace fastcnn::ops {
namespace {

struct AddKernel : FlatKernel {
  std::int64_t count;
  Function f;
  static std::string declines(const Problem& p) { return unless_function(p); }
  explicit AddKernel(const Problem& p)
      : FlatKernel(p), count(value_of<std::int64_t>(p.facts.get())), f(function_of(p.after)) {}
  void operator()(const void* const* in, void* const* out, std::int64_t n) const {
    k.add(f, in, count, floats(out[0]), n);
  }
};

struct ScaleKernel : FlatKernel {
  static constexpr int kWhole = 1;
  using FlatKernel::FlatKernel;
  void operator()(const void* const* in, void* const* out, std::int64_t n) const {
    k.scale(floats(in[0]), *floats(in[1]), floats(out[0]), n);
  }
};

// add(x0, x1, ...): their sum, from the first to the last.
class Add : public FlatOp {
 public:
  Add() : FlatOp("add", {}, flat<AddKernel>()) {}
  Inferred infer(const Attrs&, const std::vector<TensorDesc>& in) const override {
    check(!in.empty(), "expected at least one input, got none");
    for (const TensorDesc& d : in) {
      expect_float(d, "input");
      check(d.shape == in[0].shape, "expected inputs of one shape, got ", in[0].shape, " and ", d.shape);
    }
    return {{like(in[0])}, fact(static_cast<std::int64_t>(in.size()))};
  }
  std::vector<ValueId> backward(GradBuilder&, const Call& call,
                                const std::vector<ValueId>& dy) const override {
    std::vector<ValueId> grads;
    for (const bool needed : call.needs) grads.push_back(needed ? dy[0] : kNoValue);
    return grads;
  }
  PostOp as_post(const Facts* facts) const override {
    PostOp post;
    if (value_of<std::int64_t>(facts) == 2) post.kind = PostKind::kAdd;
    return post;
  }
};

class Scale : public FlatOp {
 public:
  Scale() : FlatOp("scale", {}, flat<ScaleKernel>()) {}
  Inferred infer(const Attrs&, const std::vector<TensorDesc>& in) const override {
    expect_inputs(in, 2, 2, "an input and a factor");
    expect_float(in[0], "input");
    expect_float(in[1], "factor");
    check(in[1].shape.numel() == 1, "expected a factor of one element, got ", in[1].shape);
    return {{like(in[0])}};
  }
  bool batched_input(int i) const override { return i == 0; }
  // The factor is a constant of the caller's: only x has a gradient.
  std::vector<ValueId> backward(GradBuilder& g, const Call& call,
                                const std::vector<ValueId>& dy) const override {
    if (call.needs[1]) throw ValueError("has no gradient for its factor");
    if (dy[0] == kNoValue || !call.needs[0]) return {kNoValue, kNoValue};
    return {g.add("scale", {dy[0], call.inputs[1]}, {})[0], kNoValue};
  }
};

}  // namespace

void register_arithmetic(Registry& r) {
  r.add<Add>();
  r.add<Scale>();
}

}  // namespace fastcnn::ops

// The elementwise ops: the functions of kernels/functions.inc, an op each, and their common backward op; add
// (with the function that follows it); scale by one number; the parameter update.
#include "kernels/functions.h"
#include "ops/pointwise/flat.h"
#include "ops/registry.h"

namespace fastcnn::ops {
namespace {

std::shared_ptr<const Facts> facts_from(const FunctionRow& row, const Attrs& attrs) {
  Function f;
  f.kind = row.kind;
  float* to = &f.a;
  for (const FunctionRow::Parameter& q : row.parameters) {
    *to = static_cast<float>(attrs.has(q.name) ? attrs.number(q.name) : q.fallback);
    to = &f.b;
  }
  return fact(f);
}

PostOp post_of(PostKind kind, const Facts* facts) {
  PostOp post;
  post.kind = kind, post.function = value_of<Function>(facts);
  return post;
}

template <bool kBackward>
struct FunctionKernel : FlatKernel {
  Function f;
  explicit FunctionKernel(const Problem& p) : FlatKernel(p), f(value_of<Function>(p.facts.get())) {}
  void operator()(const void* const* in, void* const* out, std::int64_t n) const {
    if (kBackward)
      k.function_grad(f, floats(in[0]), floats(in[1]), floats(out[0]), n);
    else
      k.function(f, floats(in[0]), floats(out[0]), n);
  }
};

class FunctionOp : public FlatOp {
 public:
  explicit FunctionOp(const FunctionRow& row)
      : FlatOp(row.name, parameters_of(row), flat<FunctionKernel<false>>(), row.flops), row_(row) {}
  Inferred infer(const Attrs& attrs, const std::vector<TensorDesc>& in) const override {
    expect_inputs(in, 1, 1, "one input");
    expect_float(in[0], "input");
    return {{like(in[0])}, facts_from(row_, attrs)};
  }
  ValueIds backward(GradBuilder& g, const Call& call, const ValueIds& dy) const override {
    Attrs attrs = call.attrs;
    attrs.set("kind", std::string(row_.name));
    const ValueId v = row_.from_input ? call.inputs[0] : call.outputs[0];
    return {g.add("function_backward", {dy[0], v}, attrs)[0]};
  }
  PostOp as_post(const Facts* facts) const override { return post_of(PostKind::kFunction, facts); }

 private:
  static std::vector<AttrSpec> parameters_of(const FunctionRow& row) {
    std::vector<AttrSpec> all;
    for (const auto& q : row.parameters) all.push_back({q.name, AttrKind::kNumber, q.fallback});
    return all;
  }
  const FunctionRow& row_;
};

// function_backward(dy, v) -> dx: dy times the slope of the function named `kind`, whose parameters go by
// their own names. v is its output, or its input where the table says so.
class FunctionBackward : public FlatOp {
 public:
  FunctionBackward() : FlatOp("function_backward", all_parameters(), flat<FunctionKernel<true>>()) {}
  Inferred infer(const Attrs& attrs, const std::vector<TensorDesc>& in) const override {
    const FunctionRow& row = row_named(attrs.text("kind"));
    std::size_t own = 1;
    for (const auto& q : row.parameters) own += attrs.has(q.name) ? 1 : 0;
    check(attrs.items().size() == own, row.name, ": got a parameter of another function");
    expect_inputs(
        in, 2, 2,
        row.from_input ? "the output's gradient and the input" : "the output's gradient and the output");
    expect_float(in[0], "output gradient");
    expect_shape(in[1], row.from_input ? "input" : "output", in[0].shape, "the output's gradient");
    return {{like(in[0])}, facts_from(row, attrs)};
  }
  Cost cost(const Problem& p) const override {
    return {row_of(value_of<Function>(p.facts.get()).kind).gradient_flops *
            static_cast<double>(p.outputs[0].shape.numel())};
  }
  PostOp as_post(const Facts* facts) const override { return post_of(PostKind::kFunctionGrad, facts); }

 private:
  static std::vector<AttrSpec> all_parameters() {
    std::vector<AttrSpec> all = {{"kind", AttrKind::kText, {}, true}};
    for (const FunctionRow& row : functions())
      for (const auto& q : row.parameters) {
        const auto is_it = [&](const AttrSpec& spec) { return std::string(spec.name) == q.name; };
        if (std::none_of(all.begin(), all.end(), is_it)) all.push_back({q.name, AttrKind::kNumber});
      }
    return all;
  }
  static const FunctionRow& row_named(const std::string& name) {
    if (const FunctionRow* row = function_named(name)) return *row;
    std::string known;
    for (const FunctionRow& row : functions()) known += str(known.empty() ? "" : ", ", row.name);
    throw ValueError(str("kind: expected one of ", known, ", got '", name, "'"));
  }
};

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
  ValueIds backward(GradBuilder&, const Call& call, const ValueIds& dy) const override {
    ValueIds grads;
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
  ValueIds backward(GradBuilder& g, const Call& call, const ValueIds& dy) const override {
    if (call.needs[1]) throw ValueError("has no gradient for its factor");
    return {g.add("scale", {dy[0], call.inputs[1]}, {})[0], kNoValue};
  }
};

struct SgdKernel : FlatKernel {
  static constexpr int kWhole = 3;
  using FlatKernel::FlatKernel;
  void operator()(const void* const* in, void* const*, std::int64_t n) const {
    // Parameter and buffer are updated in their own memory.
    k.sgd(floats(const_cast<void*>(in[0])), floats(in[1]), floats(const_cast<void*>(in[2])), floats(in[3]),
          n);
  }
};

// sgd(param, grad, momentum_buffer?, hyper) updates param and buffer in place, with momentum, dampening,
// Nesterov and coupled weight decay as PyTorch defines them. hyper: learning rate,
// momentum, weight decay, dampening, nesterov, first step. Without a buffer there is no momentum.
class Sgd : public OpDef {
 public:
  Sgd() : OpDef("sgd", {}, flat<SgdKernel>()) {}
  Inferred infer(const Attrs&, const std::vector<TensorDesc>& in) const override {
    expect_inputs(in, 2, 4, "param, grad, momentum buffer and hyper");
    check(in.size() == 4 && !in[3].absent, "expected param, grad, momentum buffer (or none) and hyper, got ",
          in.size(), " operands");
    expect_float(in[0], "param");
    expect_shape(in[1], "gradient", in[0].shape, "the parameter");
    if (!in[2].absent) expect_shape(in[2], "momentum buffer", in[0].shape, "the parameter");
    expect_float(in[3], "hyper");
    check(in[3].shape.numel() == 6,
          "expected 6 hyper values (lr, momentum, weight decay, dampening, nesterov, first step), got ",
          in[3].shape.numel());
    return {};
  }
  bool batched_input(int) const override { return false; }
  bool updates(int input) const override { return input == 0 || input == 2; }
  Cost cost(const Problem& p) const override {
    return {(p.inputs[2].absent ? 4.0 : 7.0) * static_cast<double>(p.inputs[0].shape.numel())};
  }
};

}  // namespace

void register_pointwise(Registry& r) {
  for (const FunctionRow& row : functions()) r.add<FunctionOp>(row);
  r.add<FunctionBackward>();
  r.add<Add>();
  r.add<Scale>();
  r.add<Sgd>();
}

}  // namespace fastcnn::ops

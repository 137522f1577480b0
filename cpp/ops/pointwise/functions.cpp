// The elementwise functions of kernels/functions.inc, an op each, and their common backward op.
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

struct FunctionKernel : FlatKernel {
  Function f;
  explicit FunctionKernel(const Problem& p) : FlatKernel(p), f(value_of<Function>(p.facts.get())) {}
  void operator()(const void* const* in, void* const* out, std::int64_t n) const {
    k.function(f, floats(in[0]), floats(out[0]), n);
  }
};

struct FunctionGradKernel : FlatKernel {
  Function f;
  explicit FunctionGradKernel(const Problem& p) : FlatKernel(p), f(value_of<Function>(p.facts.get())) {}
  void operator()(const void* const* in, void* const* out, std::int64_t n) const {
    k.function_grad(f, floats(in[0]), floats(in[1]), floats(out[0]), n);
  }
};

class FunctionOp : public FlatOp {
 public:
  explicit FunctionOp(const FunctionRow& row)
      : FlatOp(row.name, parameters_of(row), flat<FunctionKernel>(), row.flops), row_(row) {}
  Inferred infer(const Attrs& attrs, const std::vector<TensorDesc>& in) const override {
    expect_inputs(in, 1, 1, "one input");
    expect_float(in[0], "input");
    return {{like(in[0])}, facts_from(row_, attrs)};
  }
  std::vector<ValueId> backward(GradBuilder& g, const Call& call,
                                const std::vector<ValueId>& dy) const override {
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
  FunctionBackward() : FlatOp("function_backward", all_parameters(), flat<FunctionGradKernel>()) {}
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

}  // namespace

void register_pointwise(Registry& r) {
  for (const FunctionRow& row : functions()) r.add<FunctionOp>(row);
  r.add<FunctionBackward>();
  register_arithmetic(r);
}

}  // namespace fastcnn::ops

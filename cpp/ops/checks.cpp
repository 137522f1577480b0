#include "ops/checks.h"

namespace fastcnn::ops {
namespace {

template <class F>
void each_laid_out(const Problem& p, F&& f) {
  for (const auto* list : {&p.inputs, &p.outputs})
    for (const TensorDesc& d : *list)
      if (takes_layout(d)) f(d);
}

void expect_not_empty(const TensorDesc& d, const char* what) {
  for (int i = 1; i < d.shape.rank(); ++i)
    check(d.shape[i] >= 1, "expected ", what, " without empty dimensions past the batch, got ", d.shape);
}

}  // namespace

void expect_inputs(const std::vector<TensorDesc>& in, std::size_t least, std::size_t most,
                   const char* names) {
  check(in.size() >= least && in.size() <= most, "expected ", names, ", got ", in.size(), " operands");
  for (std::size_t i = 0; i < least; ++i)
    check(!in[i].absent, "expected ", names, ", got none as operand ", i);
}

void expect_float(const TensorDesc& d, const char* what) {
  check(!d.absent, "expected ", what, ", got none");
  if (d.dtype != DType::kFloat32) throw TypeError(str("expected float32 ", what, ", got ", name_of(d.dtype)));
}

void expect_map(const TensorDesc& d, const char* what, int spatial) {
  static const char* const kNames[] = {"(N, C)", "(N, C, L)", "(N, C, H, W)", "(N, C, D, H, W)"};
  expect_float(d, what);
  check(d.shape.rank() == spatial + 2, "expected ", what, " of ", spatial + 2, " dimensions ",
        kNames[spatial], ", got ", d.shape.rank(), " (", what, " ", d.shape, ")");
  expect_not_empty(d, what);
}

void expect_batch(const TensorDesc& d, const char* what) {
  expect_float(d, what);
  check(d.shape.rank() >= 2 && d.shape.rank() <= 5, "expected ", what, " of 2 to 5 dimensions, got ",
        d.shape.rank(), " (", what, " ", d.shape, ")");
  expect_not_empty(d, what);
}

void expect_shape(const TensorDesc& d, const char* what, const Shape& shape, const char* like) {
  expect_float(d, what);
  check(d.shape == shape, "expected ", what, " of shape ", shape, " (as ", like, "), got ", d.shape);
}

void expect_vector(const TensorDesc& d, const char* what, std::int64_t n, const TensorDesc& x) {
  expect_float(d, what);
  check(d.shape == Shape{n}, "expected ", what, " of ", n, " elements, got ", d.shape, " (input ", x.shape,
        ")");
}

void expect_bias(const std::vector<TensorDesc>& in, std::int64_t channels) {
  if (in.size() < 3 || in[2].absent) return;
  expect_float(in[2], "bias");
  check(in[2].shape == Shape{channels}, "expected a bias of ", channels, " elements, got ", in[2].shape,
        " (weight ", in[1].shape, ")");
}

TensorDesc like(const TensorDesc& operand) {
  return {operand.shape, DType::kFloat32, Layout::kPlain, operand.batched};
}
TensorDesc batched_desc(const Shape& shape, DType dtype) { return {shape, dtype, Layout::kPlain, true}; }
TensorDesc plain_desc(const Shape& shape, DType dtype) { return {shape, dtype}; }

std::string unless_in(const Problem& p, Layout layout) {
  std::string why;
  each_laid_out(p, [&](const TensorDesc& d) {
    if (why.empty() && !same_memory(d, d.layout, layout))
      why = str("takes ", name_of(layout), " values, got ", name_of(d.layout));
  });
  return why;
}

std::string unless_alike(const Problem& p) {
  const Layout layout = layout_of(p);
  return unless_in(p, layout).empty() ? "" : "takes values that all lie in one layout";
}

std::string unless_dense(const Problem& p) {
  for (const auto* list : {&p.inputs, &p.outputs})
    for (const TensorDesc& d : *list)
      if (!d.absent && d.pitch != 0 && !dense(d)) return "takes values that have their own memory";
  return "";
}

std::string unless_after(const Problem& p, std::initializer_list<PostKind> order) {
  return p.before.empty() ? unless_in_order(p.after, order) : "takes its input as it is";
}
std::string unless_no_posts(const Problem& p) { return unless_after(p, {}); }

std::string unless_function(const Problem& p) {
  const PostOp* f = p.before.empty() ? find(p.after, PostKind::kFunction) : nullptr;
  if (f && f->out >= 0) return "does not keep the value before the function";
  return unless_after(p, {PostKind::kFunction});
}

int own_input(const Problem& p, int i) {
  if (i >= static_cast<int>(p.inputs.size()) || p.inputs[static_cast<std::size_t>(i)].absent) return -1;
  for (const PostOps* posts : {&p.before, &p.after})
    for (const PostOp& post : *posts)
      if (post.in >= 0 && post.in <= i) return -1;
  return i;
}

std::vector<ValueId> weighted_gradients(GradBuilder& g, const Call& call, ValueId dy, const std::string& data,
                                        const Attrs& data_attrs, const std::string& weights,
                                        const Attrs& weights_attrs) {
  std::vector<ValueId> grads(call.inputs.size(), kNoValue);
  const bool bias = call.inputs.size() > 2 && call.needs[2];
  if (call.needs[0]) grads[0] = g.add(data, {dy, call.inputs[1]}, data_attrs)[0];
  if (!call.needs[1] && !bias) return grads;
  const auto dw_db = g.add(weights, {call.inputs[0], dy}, weights_attrs);
  if (call.needs[1]) grads[1] = dw_db[0];
  if (bias) grads[2] = dw_db[1];
  return grads;
}

Layout layout_of(const Problem& p) {
  Layout layout = Layout::kPlain;
  each_laid_out(p, [&](const TensorDesc& d) {
    // Where two names mean the same bytes, the value that tells them apart decides.
    if (layout == Layout::kPlain || !same_memory(d, Layout::kPlain, Layout::kNHWC))
      if (d.layout != Layout::kPlain) layout = d.layout;
  });
  return layout;
}

}  // namespace fastcnn::ops

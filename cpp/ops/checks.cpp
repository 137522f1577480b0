#include "ops/checks.h"

namespace fastcnn::ops {
namespace {

bool lies_in_a_layout(const TensorDesc& d) {
  return !d.absent && d.batched && (d.shape.rank() == 2 || d.shape.rank() == 4) && d.dtype != DType::kInt64;
}

template <class F>
void each_laid_out(const Problem& p, F&& f) {
  for (const auto* list : {&p.inputs, &p.outputs})
    for (const TensorDesc& d : *list)
      if (lies_in_a_layout(d)) f(d);
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

void expect_map(const TensorDesc& d, const char* what) {
  expect_float(d, what);
  check(d.shape.rank() == 4, "expected ", what, " of 4 dimensions (N, C, H, W), got ", d.shape.rank(), " (",
        what, " ", d.shape, ")");
  for (int i = 1; i < 4; ++i)
    check(d.shape[i] >= 1, "expected ", what, " without empty channel and spatial dimensions, got ", d.shape);
}

void expect_batch(const TensorDesc& d, const char* what) {
  expect_float(d, what);
  check(d.shape.rank() == 2 || d.shape.rank() == 4, "expected ", what, " of 2 or 4 dimensions, got ",
        d.shape.rank(), " (", what, " ", d.shape, ")");
  for (int i = 1; i < d.shape.rank(); ++i)
    check(d.shape[i] >= 1, "expected ", what, " without empty dimensions past the batch, got ", d.shape);
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

TensorDesc like(const TensorDesc& operand) {
  return {operand.shape, DType::kFloat32, Layout::kPlain, operand.batched, false};
}

TensorDesc batched_desc(const Shape& shape, DType dtype) {
  TensorDesc d;
  d.shape = shape, d.dtype = dtype, d.batched = true;
  return d;
}

TensorDesc plain_desc(const Shape& shape, DType dtype) {
  TensorDesc d;
  d.shape = shape, d.dtype = dtype;
  return d;
}

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

Layout layout_of(const Problem& p) {
  Layout layout = Layout::kPlain;
  each_laid_out(p, [&](const TensorDesc& d) {
    // Where two names mean the same bytes, the value that tells them apart decides.
    if (layout == Layout::kPlain || !same_memory(d, Layout::kPlain, Layout::kNHWC))
      if (d.layout != Layout::kPlain) layout = d.layout;
  });
  return layout;
}

Act act_of(Activation a) {
  static_assert(static_cast<int>(Act::kRelu) == static_cast<int>(Activation::kRelu) &&
                static_cast<int>(Act::kTanh) == static_cast<int>(Activation::kTanh) &&
                static_cast<int>(Act::kSigmoid) == static_cast<int>(Activation::kSigmoid));
  return static_cast<Act>(a);
}

}  // namespace fastcnn::ops

// softmax, and softmax + cross-entropy as one op that gives the loss, its gradient and the hits in one pass.
#include <algorithm>

#include "kernels/loss.h"
#include "ops/checks.h"
#include "ops/registry.h"
#include "ops/sliced.h"

namespace fastcnn::ops {
namespace {

// Samples that an item takes, of vectors of so many classes.
std::int64_t rows_per_item(std::int64_t classes) {
  return std::max<std::int64_t>(1, kFlatItem / 4 / std::max<std::int64_t>(1, classes));
}

template <bool kBackward>
class SoftmaxRows final : public Prepared {
 public:
  explicit SoftmaxRows(const Problem& p)
      : k_(*p.kernels().loss),
        n_(p.inputs[0].shape[0]),
        classes_(p.inputs[0].shape[1]),
        rows_(rows_per_item(classes_)) {
    stages_ = {ceil_div(n_, rows_)};
  }
  void item(const RunArgs& a, int, std::int64_t i, const Worker&) const override {
    const std::int64_t at = i * rows_ * classes_, rows = std::min(rows_, n_ - i * rows_);
    if (kBackward)
      k_.softmax_grad_rows(floats(a.in[0]) + at, floats(a.in[1]) + at, floats(a.out[0]) + at, rows, classes_);
    else
      k_.softmax_rows(floats(a.in[0]) + at, floats(a.out[0]) + at, rows, classes_);
  }

 private:
  const LossKernels& k_;
  std::int64_t n_, classes_, rows_;
};

template <bool kBackward>
class SoftmaxBlocks final : public Sliced {
 public:
  explicit SoftmaxBlocks(const Problem& p)
      : Sliced(p), k_(*p.kernels().loss), classes_(p.inputs[0].shape[1]) {}
  void slice(const SliceArgs& a) const override {
    if (kBackward)
      k_.softmax_grad_block(floats(a.in[0]), floats(a.in[1]), floats(a.out[0]), classes_);
    else
      k_.softmax_block(floats(a.in[0]), floats(a.out[0]), classes_);
  }

 private:
  const LossKernels& k_;
  std::int64_t classes_;
};

void expect_logits(const TensorDesc& d, const char* what) {
  expect_float(d, what);
  check(d.shape.rank() == 2 && d.shape[1] >= 1, "expected ", what, " of shape (N, classes), got ", d.shape);
}

template <class Blocks, class Rows>
std::vector<Impl> blocks_and_rows() {
  return {
      {"interleaved", unless_plain_in<Layout::kInterleaved>, prepare<Blocks>, true},
      {"rows", [](const Problem& p) { return first_of(unless_plain_in<Layout::kPlain>(p), unless_dense(p)); },
       prepare<Rows>}};
}

template <bool kBackward>
class Softmax : public OpDef {
 public:
  explicit Softmax(const char* name)
      : OpDef(name, {}, blocks_and_rows<SoftmaxBlocks<kBackward>, SoftmaxRows<kBackward>>(),
              kBackward ? 4 : 25) {}
  Inferred infer(const Attrs&, const std::vector<TensorDesc>& in) const override {
    expect_inputs(in, kBackward ? 2 : 1, kBackward ? 2 : 1,
                  kBackward ? "the output's gradient and the output" : "one input");
    expect_logits(in[0], kBackward ? "output gradient" : "input");
    if (kBackward) expect_shape(in[1], "output", in[0].shape, "its gradient");
    return {{batched_desc(in[0].shape)}};
  }
  ValueIds backward(GradBuilder& g, const Call& call, const ValueIds& dy) const override {
    if (kBackward) return OpDef::backward(g, call, dy);
    return {g.add("softmax_backward", {dy[0], call.outputs[0]}, {})[0]};
  }
  int in_place(const Problem&) const override { return 0; }
};

struct CrossEntropy {  // what both faces share
  const LossKernels& k;
  const std::int64_t n, classes;
  const double count;
  const int given;  // the input that holds the divisor

  explicit CrossEntropy(const Problem& p)
      : k(*p.kernels().loss),
        n(p.inputs[0].shape[0]),
        classes(p.inputs[0].shape[1]),
        // the mean of no samples is NaN
        count(value_of<bool>(p.facts.get()) ? static_cast<double>(n) : 1.0),
        given(own_input(p, 2)) {}
  double divisor(const void* const* in) const {
    return given < 0 ? count : static_cast<double>(*floats(in[given]));
  }
  float scale(const void* const* in) const { return static_cast<float>(1.0 / divisor(in)); }
  // The results, of sums that are `step` bytes apart, added in a fixed order.
  void finish(const std::byte* sums, std::size_t step, std::int64_t count, const RunArgs& a) const {
    LossSum sum{};
    for (std::int64_t i = 0; i < count; ++i, sums += step) {
      const auto& part = *reinterpret_cast<const LossSum*>(sums);
      sum.loss += part.loss, sum.correct += part.correct;
    }
    *floats(a.out[0]) = static_cast<float>(sum.loss / divisor(a.in));
    if (a.out[2]) *floats(a.out[2]) = static_cast<float>(sum.correct);
  }
};

class CrossEntropyRows final : public Prepared {
 public:
  explicit CrossEntropyRows(const Problem& p)
      : ce_(p),
        rows_(rows_per_item(ce_.classes)),
        items_(ceil_div(ce_.n, rows_)),
        sums_(shared_.add<LossSum>(items_)) {
    stages_ = {items_, 1};
  }
  void item(const RunArgs& a, int stage, std::int64_t i, const Worker&) const override {
    LossSum* const sums = sums_.in(a.shared);
    if (stage == 1) return ce_.finish(a.shared + sums_.at, sizeof(LossSum), items_, a);
    const std::int64_t first = i * rows_, at = first * ce_.classes;
    sums[i] = {};
    ce_.k.cross_entropy_rows({floats(a.in[0]) + at, static_cast<const std::int64_t*>(a.in[1]) + first,
                              a.out[1] ? floats(a.out[1]) + at : nullptr, std::min(rows_, ce_.n - first),
                              ce_.classes, ce_.scale(a.in)},
                             sums[i]);
  }

 private:
  CrossEntropy ce_;
  std::int64_t rows_, items_;
  Range<LossSum> sums_;
};

class CrossEntropyBlocks final : public Sliced {
 public:
  explicit CrossEntropyBlocks(const Problem& p) : Sliced(p), ce_(p) {
    cut_in(p, 1);
    own_.add<LossSum>(1);
    reduces(sizeof(LossSum));
  }
  void start(std::byte* own) const override { *reinterpret_cast<LossSum*>(own) = {}; }
  void slice(const SliceArgs& a) const override {
    ce_.k.cross_entropy_block({floats(a.in[0]), static_cast<const std::int64_t*>(a.in[1]), floats(a.out[1]),
                               a.images, ce_.classes, ce_.scale(a.in)},
                              *reinterpret_cast<LossSum*>(a.own));
  }
  void end(std::byte* own, std::byte* partial) const override {
    *reinterpret_cast<LossSum*>(partial) = *reinterpret_cast<LossSum*>(own);
  }
  void finish(const std::byte* partials, std::int64_t groups, const RunArgs& a, std::int64_t) const override {
    ce_.finish(partials, partial_step(), groups, a);
  }

 private:
  CrossEntropy ce_;
};

// softmax_cross_entropy(logits, labels, divisor?) -> loss, dlogits, correct. The divisor [1] takes the place
// of the one that `reduction` means: it may change from run to run. A label outside [0, classes) gives a NaN
// loss.
class SoftmaxCrossEntropy : public OpDef {
 public:
  SoftmaxCrossEntropy()
      : OpDef("softmax_cross_entropy", {{"reduction", AttrKind::kText, std::string("mean")}},
              blocks_and_rows<CrossEntropyBlocks, CrossEntropyRows>(), 28) {}
  Inferred infer(const Attrs& attrs, const std::vector<TensorDesc>& in) const override {
    expect_inputs(in, 2, 3, "logits, labels and a divisor");
    expect_logits(in[0], "logits");
    if (in[1].dtype != DType::kInt64)
      throw TypeError(str("expected int64 labels, got ", name_of(in[1].dtype)));
    check(in[1].shape == Shape{in[0].shape[0]}, "expected one label per sample (", in[0].shape[0],
          "), got labels of shape ", in[1].shape, " (logits ", in[0].shape, ")");
    if (in.size() > 2 && !in[2].absent)
      check(in[2].dtype == DType::kFloat32 && in[2].shape == Shape{1}, "expected a divisor float32 (1), got ",
            name_of(in[2].dtype), " ", in[2].shape);
    check(in[0].shape[1] <= INT32_MAX, "expected fewer than 2^31 classes, got ", in[0].shape[1]);
    const std::string& reduction = attrs.text("reduction");
    check(reduction == "mean" || reduction == "sum", "reduction: expected mean or sum, got '", reduction,
          "'");
    return {{plain_desc({1}), batched_desc(in[0].shape), plain_desc({1})}, fact(reduction == "mean")};
  }
  bool optional_output(int i) const override { return i > 0; }
  // dlogits is the gradient of the loss itself: what arrives only scales it.
  ValueIds backward(GradBuilder& g, const Call& call, const ValueIds& dy) const override {
    if (dy.size() > 1 && dy[1] != kNoValue) throw ValueError("has no second gradient");
    if (dy[0] == kNoValue || !call.needs[0]) return {kNoValue, kNoValue, kNoValue};
    if (g.is_one(dy[0])) return {call.outputs[1], kNoValue, kNoValue};
    return {g.add("scale", {call.outputs[1], dy[0]}, {})[0], kNoValue, kNoValue};
  }
};

}  // namespace

void register_loss(Registry& r) {
  r.add<Softmax<false>>("softmax");
  r.add<Softmax<true>>("softmax_backward");
  r.add<SoftmaxCrossEntropy>();
}

}  // namespace fastcnn::ops

// softmax, and softmax + cross-entropy as one op that gives the loss, its gradient and the hits in one pass.
#include <algorithm>

#include "core/parallel.h"
#include "kernels/pointwise.h"
#include "kernels/table.h"
#include "ops/block.h"
#include "ops/checks.h"
#include "ops/pieces.h"
#include "ops/registry.h"

namespace fastcnn::ops {
namespace {

std::int64_t rows_per_item(std::int64_t classes) {
  return std::max<std::int64_t>(1, kFlatItem / 4 / std::max<std::int64_t>(1, classes));
}

template <bool kBackward>
class SoftmaxRows : public Prepared {
 public:
  explicit SoftmaxRows(const Problem& p)
      : n_(p.inputs[0].shape[0]), classes_(p.inputs[0].shape[1]), rows_(rows_per_item(classes_)) {}
  void run(const RunArgs& a) const override {
    parallel_for((n_ + rows_ - 1) / rows_, [&](std::int64_t item, int) {
      const std::int64_t at = item * rows_ * classes_, rows = std::min(rows_, n_ - item * rows_);
      const PointwiseKernels& k = *kernels().pointwise;
      if (kBackward)
        k.softmax_grad_rows(floats(a.in[0]) + at, floats(a.in[1]) + at, floats(a.out[0]) + at, rows,
                            classes_);
      else
        k.softmax_rows(floats(a.in[0]) + at, floats(a.out[0]) + at, rows, classes_);
    });
  }

 private:
  std::int64_t n_, classes_, rows_;
};

template <bool kBackward>
class SoftmaxBlock : public BlockOp {
 public:
  explicit SoftmaxBlock(const Problem& p) : BlockOp(p), classes_(p.inputs[0].shape[1]) {}
  void block(const BlockArgs& a) const override {
    const PointwiseKernels& k = *kernels().pointwise;
    if (kBackward)
      k.softmax_grad_block(floats(a.in[0]), floats(a.in[1]), floats(a.out[0]), classes_);
    else
      k.softmax_block(floats(a.in[0]), floats(a.out[0]), classes_);
  }

 private:
  std::int64_t classes_;
};

void expect_logits(const TensorDesc& d, const char* what) {
  expect_float(d, what);
  check(d.shape.rank() == 2 && d.shape[1] >= 1, "expected ", what, " of shape (N, classes), got ", d.shape);
}

std::string unless_plain(const Problem& p) { return unless_in(p, Layout::kPlain); }
std::string unless_interleaved(const Problem& p) { return unless_in(p, Layout::kInterleaved); }

class Softmax : public OpDef {
 public:
  const char* name() const override { return "softmax"; }
  std::vector<TensorDesc> infer(const Attrs&, const std::vector<TensorDesc>& in) const override {
    expect_inputs(in, 1, 1, "one input");
    expect_logits(in[0], "input");
    return {batched_desc(in[0].shape)};
  }
  bool batched_input(int) const override { return true; }
  const std::vector<Impl>& implementations() const override {
    static const std::vector<Impl> list = {{"interleaved", unless_interleaved, prepare<SoftmaxBlock<false>>},
                                           {"rows", unless_plain, prepare<SoftmaxRows<false>>}};
    return list;
  }
  std::vector<ValueId> backward(GradBuilder& g, const Call& call,
                                const std::vector<ValueId>& dy) const override {
    if (dy[0] == kNoValue || !call.needs[0]) return {kNoValue};
    return {g.add("softmax_backward", {dy[0], call.outputs[0]}, {})[0]};
  }
  Cost cost(const Problem& p) const override {
    return {25.0 * static_cast<double>(p.outputs[0].shape.numel())};
  }
  int in_place(const Problem&) const override { return 0; }
};

class SoftmaxBackward : public OpDef {
 public:
  const char* name() const override { return "softmax_backward"; }
  std::vector<TensorDesc> infer(const Attrs&, const std::vector<TensorDesc>& in) const override {
    expect_inputs(in, 2, 2, "the output's gradient and the output");
    expect_logits(in[0], "output gradient");
    expect_shape(in[1], "output", in[0].shape, "its gradient");
    return {batched_desc(in[0].shape)};
  }
  bool batched_input(int) const override { return true; }
  const std::vector<Impl>& implementations() const override {
    static const std::vector<Impl> list = {{"interleaved", unless_interleaved, prepare<SoftmaxBlock<true>>},
                                           {"rows", unless_plain, prepare<SoftmaxRows<true>>}};
    return list;
  }
  Cost cost(const Problem& p) const override {
    return {4.0 * static_cast<double>(p.outputs[0].shape.numel())};
  }
  int in_place(const Problem&) const override { return 0; }
};

// Partial sums of samples, added in a fixed order.
struct LossSum {
  double loss = 0, correct = 0;
};

struct CrossEntropy {  // what both faces share
  std::int64_t n, classes;
  float scale;  // of dlogits
  double divisor;

  explicit CrossEntropy(const Problem& p) : n(p.inputs[0].shape[0]), classes(p.inputs[0].shape[1]) {
    const bool mean = p.attrs.text("reduction", "mean") == "mean";
    divisor = mean ? static_cast<double>(n) : 1.0;  // the mean of no samples is NaN
    scale = static_cast<float>(1.0 / divisor);
  }
  void write(const LossSum& sum, void* const* out) const {
    if (out[0]) *floats(out[0]) = static_cast<float>(sum.loss / divisor);
    if (out[2]) *floats(out[2]) = static_cast<float>(sum.correct);
  }
};

class CrossEntropyRows : public Prepared {
 public:
  explicit CrossEntropyRows(const Problem& p)
      : ce_(p), rows_(rows_per_item(ce_.classes)), items_((ce_.n + rows_ - 1) / rows_) {}
  std::size_t scratch_bytes() const override { return static_cast<std::size_t>(items_) * sizeof(LossSum); }
  void run(const RunArgs& a) const override {
    auto* const parts = reinterpret_cast<LossSum*>(a.scratch);
    parallel_for(items_, [&](std::int64_t item, int) {
      const std::int64_t first = item * rows_, at = first * ce_.classes;
      CrossEntropyArgs args{floats(a.in[0]) + at,
                            static_cast<const std::int64_t*>(a.in[1]) + first,
                            a.out[1] ? floats(a.out[1]) + at : nullptr,
                            std::min(rows_, ce_.n - first),
                            ce_.classes,
                            ce_.scale,
                            0,
                            0};
      kernels().pointwise->cross_entropy_rows(args);
      parts[item] = {args.loss, args.correct};
    });
    LossSum sum;
    for (std::int64_t i = 0; i < items_; ++i) sum.loss += parts[i].loss, sum.correct += parts[i].correct;
    ce_.write(sum, a.out);
  }

 private:
  CrossEntropy ce_;
  std::int64_t rows_, items_;
};

class CrossEntropyBlock : public BlockOp {
 public:
  explicit CrossEntropyBlock(const Problem& p) : BlockOp(p), ce_(p) {}
  std::size_t local_bytes() const override { return sizeof(LossSum); }
  std::size_t partial_bytes() const override { return sizeof(LossSum); }
  void begin(std::byte* local) const override { *reinterpret_cast<LossSum*>(local) = {}; }
  void block(const BlockArgs& a) const override {
    auto& sum = *reinterpret_cast<LossSum*>(a.local);
    CrossEntropyArgs args{
        floats(a.in[0]),  static_cast<const std::int64_t*>(a.in[1]) + a.block * kernels().width,
        floats(a.out[1]), a.valid,
        ce_.classes,      ce_.scale,
        sum.loss,         sum.correct};
    kernels().pointwise->cross_entropy_block(args);
    sum = {args.loss, args.correct};
  }
  void end(std::byte* local, std::byte* partial) const override {
    *reinterpret_cast<LossSum*>(partial) = *reinterpret_cast<LossSum*>(local);
  }
  void finish(const std::byte* partials, std::int64_t groups, void* const* out) const override {
    LossSum sum;
    for (std::int64_t g = 0; g < groups; ++g) {
      const auto& part = *reinterpret_cast<const LossSum*>(partials + static_cast<std::size_t>(g) *
                                                                          align64(sizeof(LossSum)));
      sum.loss += part.loss, sum.correct += part.correct;
    }
    ce_.write(sum, out);
  }

 private:
  CrossEntropy ce_;
};

// softmax_cross_entropy(logits, labels) -> loss, dlogits, correct. A label outside [0, classes) gives a NaN
// loss.
class SoftmaxCrossEntropy : public OpDef {
 public:
  const char* name() const override { return "softmax_cross_entropy"; }
  std::vector<TensorDesc> infer(const Attrs& attrs, const std::vector<TensorDesc>& in) const override {
    expect_inputs(in, 2, 2, "logits and labels");
    expect_logits(in[0], "logits");
    if (in[1].dtype != DType::kInt64)
      throw TypeError(str("expected int64 labels, got ", name_of(in[1].dtype)));
    check(in[1].shape == Shape{in[0].shape[0]}, "expected one label per sample (", in[0].shape[0],
          "), got labels of shape ", in[1].shape, " (logits ", in[0].shape, ")");
    check(in[0].shape[1] <= INT32_MAX, "expected fewer than 2^31 classes, got ", in[0].shape[1]);
    const std::string reduction = attrs.text("reduction", "mean");
    check(reduction == "mean" || reduction == "sum", "reduction: expected mean or sum, got '", reduction,
          "'");
    return {plain_desc({1}), batched_desc(in[0].shape), plain_desc({1})};
  }
  bool batched_input(int) const override { return true; }
  const std::vector<Impl>& implementations() const override {
    static const std::vector<Impl> list = {{"interleaved", unless_interleaved, prepare<CrossEntropyBlock>},
                                           {"rows", unless_plain, prepare<CrossEntropyRows>}};
    return list;
  }
  // dlogits is the gradient of the loss itself: what arrives only scales it.
  std::vector<ValueId> backward(GradBuilder& g, const Call& call,
                                const std::vector<ValueId>& dy) const override {
    if (dy.size() > 1 && dy[1] != kNoValue) throw ValueError("has no second gradient");
    if (dy[0] == kNoValue || !call.needs[0]) return {kNoValue, kNoValue};
    if (g.is_one(dy[0])) return {call.outputs[1], kNoValue};
    return {g.add("scale", {call.outputs[1], dy[0]}, {})[0], kNoValue};
  }
  Cost cost(const Problem& p) const override {
    return {28.0 * static_cast<double>(p.inputs[0].shape.numel())};
  }
};

}  // namespace

void register_loss(Registry& r) {
  static const Softmax softmax;
  static const SoftmaxBackward softmax_backward;
  static const SoftmaxCrossEntropy cross_entropy;
  for (const OpDef* op : std::initializer_list<const OpDef*>{&softmax, &softmax_backward, &cross_entropy})
    r.add(*op);
}

}  // namespace fastcnn::ops

// conv{1,2,3}d and their backward ops: checks, shapes, backward rule, lists of implementations.
// fold_channel_affine, which puts an inference batch norm into the weights, lives here too. The arithmetic is
// elsewhere.
#include "ops/conv/conv.h"

#include <cmath>

#include "ops/registry.h"

namespace fastcnn::ops {
namespace {

// Sums of a few sizes cannot overflow, and 32 bits count what the kernels count.
constexpr std::int64_t kMaxSize = std::int64_t{1} << 30;
constexpr std::int64_t kMaxTaps = std::int64_t{1} << 24;

std::string name_of(ConvDirection d, int rank) {
  static const char* const kSuffixes[] = {"", "_backward_data", "_backward_weights"};
  return str("conv", rank, "d", kSuffixes[static_cast<int>(d)]);
}

std::vector<AttrSpec> window_attributes(const char* size) {
  const auto integers = [](std::int64_t fallback) { return std::vector<std::int64_t>{fallback}; };
  std::vector<AttrSpec> list = {{"stride", AttrKind::kIntegers, integers(1)},
                                {"padding", AttrKind::kIntegers, integers(0)},
                                {"dilation", AttrKind::kIntegers, integers(1)},
                                {"groups", AttrKind::kInteger, std::int64_t{1}}};
  if (size) list.push_back({size, AttrKind::kIntegers, {}, true});
  return list;
}

// The files' implementations of one direction, in the order of preference.
std::vector<Impl> implementations_of(ConvDirection direction) {
  const auto d = static_cast<std::size_t>(direction);
  return {kConvInterleaved[d], kConvDepthwise[d], kConvWinograd[d], kConvDirect[d]};
}

// Integers of an attribute, each in [least, kMaxSize).
std::vector<std::int64_t> sizes(const Attrs& attrs, const char* name, int count, std::int64_t least,
                                const char* what) {
  const auto v = attrs.ints(name, count);
  std::string all;
  for (const std::int64_t i : v) all += str(all.empty() ? "[" : ", ", i);
  for (const std::int64_t i : v) {
    check(i >= least, "expected ", what, " of at least ", least, ", got ", all, "]");
    check(i < kMaxSize, "expected ", what, " below ", kMaxSize, ", got ", all, "]");
  }
  return v;
}

// What all three directions do.
class Conv : public OpDef {
 public:
  Conv(ConvDirection d, int rank, const char* size)
      : OpDef(name_of(d, rank), window_attributes(size), implementations_of(d)), rank_(rank), direction_(d) {}
  bool batched_input(int i) const override {
    return i == 0 || (i == 1 && direction_ == ConvDirection::kBackwardWeights);
  }
  // The layout pass compares layouts by these; docs/benchmarks.md has the measured shares of the peak.
  Cost cost(const Problem& problem) const override {
    const auto& p = facts_of<ConvParams>(problem);
    const double flops = 2.0 * p.macs();
    if (problem.inputs[0].layout == Layout::kInterleaved) return {flops, 0.65};  // a lane is an image
    const std::int64_t width = problem.kernels().width;
    const std::int64_t channels = direction_ == ConvDirection::kBackwardData ? p.gic() : p.goc();
    const double lanes = static_cast<double>(channels) / static_cast<double>(round_up(channels, width));
    const bool winograd = p.kernel[0] == 1 && p.kernel[1] == 3 && p.kernel[2] == 3 && p.stride[1] == 1 &&
                          p.stride[2] == 1 && p.groups == 1 && p.ic >= width && p.oc >= width;
    return {flops, (winograd ? 1.2 : 0.7) * lanes / (p.groups > 1 && !p.depthwise() ? 2 : 1)};
  }

 protected:
  // (a, b, spatial) of the op's rank
  Shape shape(std::int64_t a, std::int64_t b, const std::int64_t (&spatial)[3]) const {
    std::vector<std::int64_t> v = {a, b};
    v.insert(v.end(), spatial + 3 - rank_, spatial + 3);
    return Shape(v);
  }
  void set(std::int64_t (&to)[3], const std::int64_t* from) const {
    std::copy(from, from + rank_, to + 3 - rank_);
  }

  std::shared_ptr<ConvParams> parsed(const Attrs& attrs) const {
    auto p = std::make_shared<ConvParams>();
    p->rank = rank_;
    set(p->stride, sizes(attrs, "stride", rank_, 1, "strides").data());
    set(p->dilation, sizes(attrs, "dilation", rank_, 1, "dilations").data());
    const auto padding = sizes(attrs, "padding", 2 * rank_, 0, "padding");
    set(p->before, padding.data());
    set(p->after, padding.data() + rank_);
    p->groups = attrs.integer("groups");
    check(p->groups >= 1, "expected groups of at least 1, got ", p->groups);
    return p;
  }

  // Takes oc, ic / groups and the kernel from the weight; returns ic / groups.
  std::int64_t take_weight(ConvParams& p, const TensorDesc& d) const {
    static const char* const kSpatial[] = {"kernel length", "kernel height, kernel width",
                                           "kernel depth, kernel height, kernel width"};
    expect_float(d, "weight");
    check(d.shape.rank() == rank_ + 2, "expected weight of ", rank_ + 2,
          " dimensions (out channels, in channels / groups, ", kSpatial[rank_ - 1], "), got ", d.shape.rank(),
          " (weight ", d.shape, ")");
    for (const std::int64_t n : d.shape)
      check(n >= 1 && n < kMaxSize, "expected weight ",
            n < 1 ? "without empty dimensions" : str("dimensions below ", kMaxSize), ", got ", d.shape);
    p.oc = d.shape[0];
    set(p.kernel, d.shape.begin() + 2);
    return d.shape[1];
  }

  // Output sizes, from all others; the output gradient, if there is one, must have them.
  void complete(ConvParams& p, const std::string& operands, const Shape* dy = nullptr) const {
    static const char* const kSides[] = {"depth", "height", "width"};
    check(p.oc % p.groups == 0, "expected out channels divisible by ", p.groups, " groups, got ", p.oc, " (",
          operands, ")");
    std::int64_t image = p.ic, result = checked_product(p.n, p.oc), taps = 1;
    for (int d = 3 - rank_; d < 3; ++d) {
      const char* const side = rank_ == 1 ? "length" : kSides[d];
      check(p.in[d] < kMaxSize && p.in[d] + p.before[d] + p.after[d] < kMaxSize, "expected a padded input ",
            side, " below ", kMaxSize, ", got ",
            p.in[d] + (p.in[d] < kMaxSize ? p.before[d] + p.after[d] : 0), " (", operands, ")");
      const std::int64_t padded = p.in[d] + p.before[d] + p.after[d];
      const std::int64_t extent = checked_product(p.kernel[d] - 1, p.dilation[d]) + 1;
      check(extent <= padded, "kernel ", side, " ", extent, p.dilation[d] > 1 ? " (dilated)" : "",
            " is larger than the padded input's ", padded, " (", operands, ")");
      p.out[d] = (padded - extent) / p.stride[d] + 1;
      image = checked_product(image, padded);
      result = checked_product(result, p.out[d]);
      taps = checked_product(taps, p.kernel[d]);
    }
    check(taps <= kMaxTaps, "expected a kernel of at most ", kMaxTaps, " taps, got ", taps, " (", operands,
          ")");
    const Shape y = shape(p.n, p.oc, p.out);
    check(!dy || *dy == y, "expected an output gradient of ", y, ", got ", dy ? *dy : y, " (", operands, ")");
  }

  int rank_;
  ConvDirection direction_;
};

class ConvForward : public Conv {
 public:
  explicit ConvForward(int rank) : Conv(ConvDirection::kForward, rank, nullptr) {}
  Inferred infer(const Attrs& attrs, const std::vector<TensorDesc>& in) const override {
    expect_inputs(in, 2, 3, "input and weight");
    const auto p = parsed(attrs);
    expect_map(in[0], "input", rank_);
    const Shape &x = in[0].shape, &w = in[1].shape;
    const std::int64_t per_group = take_weight(*p, in[1]), channels = checked_product(per_group, p->groups);
    const std::string operands = str("input ", x, ", weight ", w);
    check(x[1] == channels, "expected ", channels, " input channels, got ", x[1], " (", operands,
          p->groups > 1 ? str(", ", p->groups, " groups") : "", ")");
    p->n = x[0], p->ic = x[1];
    set(p->in, x.begin() + 2);
    complete(*p, operands);
    expect_bias(in, p->oc);
    return {{batched_desc(shape(p->n, p->oc, p->out))}, p};
  }
  std::vector<ValueId> backward(GradBuilder& g, const Call& call,
                                const std::vector<ValueId>& dy) const override {
    const auto& p = static_cast<const ConvParams&>(*call.facts);
    const auto with = [&](const char* name, const std::int64_t (&size)[3]) {
      Attrs attrs = call.attrs;
      attrs.set(name, std::vector<std::int64_t>(size + 3 - rank_, size + 3));
      return attrs;
    };
    return weighted_gradients(g, call, dy[0], name_of(ConvDirection::kBackwardData, rank_),
                              with("input_size", p.in), name_of(ConvDirection::kBackwardWeights, rank_),
                              with("kernel_size", p.kernel));
  }
  FoldSite fold_site(const Facts*) const override { return {1, 2, 0}; }
};

class ConvBackwardData : public Conv {
 public:
  explicit ConvBackwardData(int rank) : Conv(ConvDirection::kBackwardData, rank, "input_size") {}
  Inferred infer(const Attrs& attrs, const std::vector<TensorDesc>& in) const override {
    expect_inputs(in, 2, 2, "output gradient and weight");
    const auto p = parsed(attrs);
    expect_map(in[0], "output gradient", rank_);
    p->n = in[0].shape[0];
    p->ic = checked_product(take_weight(*p, in[1]), p->groups);
    set(p->in, sizes(attrs, "input_size", rank_, 1, "input_size").data());
    const Shape x = shape(p->n, p->ic, p->in);
    const std::string operands =
        str("output gradient ", in[0].shape, ", weight ", in[1].shape, ", input ", x);
    complete(*p, operands, &in[0].shape);
    return {{batched_desc(x)}, p};
  }
};

class ConvBackwardWeights : public Conv {
 public:
  explicit ConvBackwardWeights(int rank) : Conv(ConvDirection::kBackwardWeights, rank, "kernel_size") {}
  Inferred infer(const Attrs& attrs, const std::vector<TensorDesc>& in) const override {
    expect_inputs(in, 2, 2, "input and output gradient");
    const auto p = parsed(attrs);
    expect_map(in[0], "input", rank_);
    expect_map(in[1], "output gradient", rank_);
    const Shape &x = in[0].shape, &dy = in[1].shape;
    p->n = x[0], p->ic = x[1], p->oc = dy[1];
    set(p->in, x.begin() + 2);
    set(p->kernel, sizes(attrs, "kernel_size", rank_, 1, "kernel_size").data());
    check(p->ic % p->groups == 0, "expected input channels divisible by ", p->groups, " groups, got ", p->ic,
          " (input ", x, ", output gradient ", dy, ")");
    const Shape w = shape(p->oc, p->gic(), p->kernel);
    const std::string operands = str("input ", x, ", output gradient ", dy, ", weight ", w);
    complete(*p, operands, &dy);
    return {{plain_desc(w), plain_desc({p->oc})}, p};
  }
  bool optional_output(int i) const override { return i < 2; }
};

struct FoldFacts : Facts {
  int axis = 0;
  double eps = 0;
  std::int64_t rows = 1, cols = 1, taps = 1;  // the weight as a matrix of kernels
  std::int64_t channels = 1;
};

// w'[o] = w[o] * gamma[o] rstd[o], b'[o] = (b[o] - mean[o]) gamma[o] rstd[o] + beta[o]. Once per network, in
// double. With axis 1 the rows are input channels, in groups that own `cols` output channels each.
class FoldChannelAffinePlain : public Prepared {
 public:
  explicit FoldChannelAffinePlain(const Problem& p) : f_(facts_of<FoldFacts>(p)) { stages_ = {f_.rows}; }
  void item(const RunArgs& a, int, std::int64_t row, const Worker&) const override {
    const auto in = [&](int i) { return floats(a.in[i]); };
    const auto scale = [&](std::int64_t o) {
      return (in(4) ? in(4)[o] : 1.0) / std::sqrt(static_cast<double>(in(3)[o]) + f_.eps);
    };
    const std::int64_t first = row * f_.channels / f_.rows / f_.cols * f_.cols;
    const std::int64_t at = row * f_.cols * f_.taps;
    for (std::int64_t col = 0; col < f_.cols; ++col) {
      const double s = scale(f_.axis == 0 ? row : first + col);
      for (std::int64_t i = at + col * f_.taps; i < at + (col + 1) * f_.taps; ++i)
        floats(a.out[0])[i] = static_cast<float>(in(0)[i] * s);
    }
    const Part mine = part_of(f_.channels, f_.rows, row);
    for (std::int64_t o = mine.begin; o < mine.end; ++o) {
      const double shift = ((in(1) ? in(1)[o] : 0.0) - in(2)[o]) * scale(o) + (in(5) ? in(5)[o] : 0.0);
      floats(a.out[1])[o] = static_cast<float>(shift);
    }
  }

 private:
  FoldFacts f_;
};

class FoldChannelAffine : public OpDef {
 public:
  FoldChannelAffine()
      : OpDef("fold_channel_affine",
              {{"eps", AttrKind::kNumber, 1e-5}, {"axis", AttrKind::kInteger, std::int64_t{0}}},
              {{"plain", [](const Problem&) { return std::string(); }, prepare<FoldChannelAffinePlain>}}) {}
  Inferred infer(const Attrs& attrs, const std::vector<TensorDesc>& in) const override {
    static const char* const kOperands[] = {"weight", "bias", "running_mean", "running_var", "gamma", "beta"};
    check(in.size() == 6, "expected w, b, running_mean, running_var, gamma and beta, got ", in.size(),
          " operands");
    auto f = std::make_shared<FoldFacts>();
    const std::int64_t axis = attrs.integer("axis");
    f->eps = attrs.number("eps");
    check(f->eps >= 0, "expected eps of at least 0, got ", f->eps);
    expect_float(in[0], "weight");
    const Shape& w = in[0].shape;
    check(w.rank() >= 1 && w.numel() > 0, "expected a weight with elements, got ", w);
    check(axis == 0 || (axis == 1 && w.rank() >= 2), "expected axis 0 or 1 of a weight that has it, got ",
          axis, " (weight ", w, ")");
    f->axis = static_cast<int>(axis);
    f->rows = f->channels = w[0];
    f->cols = w.rank() > 1 ? w[1] : 1;
    f->taps = w.numel() / (f->rows * f->cols);
    // [in channels][out channels / groups]: how many groups there are shows in the other operands.
    if (axis == 1 && !in[2].absent) {
      f->channels = in[2].shape.numel();
      check(f->channels > 0 && f->channels % f->cols == 0 && f->rows % (f->channels / f->cols) == 0,
            "expected running_mean of ", f->cols, " elements times the groups, got ", in[2].shape,
            " (weight ", w, ")");
    }
    for (std::size_t i = 1; i < 6; ++i) {
      if (in[i].absent) {
        check(i != 2 && i != 3, "expected ", kOperands[i], ", got none");
        continue;
      }
      expect_float(in[i], kOperands[i]);
      check(in[i].shape == Shape{f->channels}, "expected ", kOperands[i], " of ", f->channels,
            " elements, got ", in[i].shape, " (weight ", w, ")");
    }
    return {{plain_desc(w), plain_desc({f->channels})}, f};
  }
  bool batched_input(int) const override { return false; }
};

}  // namespace

double ConvParams::macs() const {
  return static_cast<double>(n) * static_cast<double>(oc) * static_cast<double>(out_pixels()) *
         static_cast<double>(gic() * taps());
}

std::string ConvParams::text() const {
  const int d = 3 - rank;
  std::string pads;
  for (const auto* side : {before, after})
    for (int i = d; i < 3; ++i) pads += str(pads.empty() ? " padding " : ",", side[i]);
  return str(n, "x", ic, "x", Shape(in + d, rank), " -> ", oc, ", kernel ", Shape(kernel + d, rank),
             " stride ", Shape(stride + d, rank), pads, " dilation ", Shape(dilation + d, rank), " groups ",
             groups);
}

std::vector<AxisTap> taps_along(const ConvParams& p, int d, bool transposed, std::int64_t phase) {
  std::vector<AxisTap> taps;
  for (std::int64_t k = 0; k < p.kernel[d]; ++k) {
    const std::int64_t offset = k * p.dilation[d] - p.before[d];
    if (!transposed)
      taps.push_back({offset, k});
    else if ((phase - offset) % p.stride[d] == 0)
      taps.push_back({(phase - offset) / p.stride[d], k});
  }
  return taps;
}

void register_conv(Registry& r) {
  for (int rank = 1; rank <= 3; ++rank) {
    r.add<ConvForward>(rank);
    r.add<ConvBackwardData>(rank);
    r.add<ConvBackwardWeights>(rank);
  }
  r.add<FoldChannelAffine>();
}

}  // namespace fastcnn::ops

// conv2d and its two backward ops: checks, shapes, backward rule, lists of implementations.
// fold_channel_affine, which puts an inference batch norm into the weights, lives here too. The arithmetic is
// elsewhere.
#include "ops/conv/conv.h"

#include <cmath>

#include "kernels/table.h"
#include "ops/checks.h"
#include "ops/pieces.h"
#include "ops/registry.h"

namespace fastcnn::ops {
namespace {

constexpr std::int64_t kMaxGeometry = std::int64_t{1} << 30;  // sums of a few of these cannot overflow

struct Geometry {  // the attributes
  std::int64_t sh, sw, pt, pl, pb, pr, dh, dw, groups;
};

Geometry geometry(const Attrs& attrs) {
  const auto stride = attrs.ints("stride", 2, 1), dilation = attrs.ints("dilation", 2, 1);
  const auto padding = attrs.ints("padding", 4, 0);
  const std::int64_t groups = attrs.integer("groups", 1);
  for (const std::int64_t s : stride)
    check(s >= 1 && s < kMaxGeometry, "expected strides of at least 1, got [", stride[0], ", ", stride[1],
          "]");
  for (const std::int64_t d : dilation)
    check(d >= 1 && d < kMaxGeometry, "expected dilations of at least 1, got [", dilation[0], ", ",
          dilation[1], "]");
  for (const std::int64_t p : padding)
    check(p >= 0 && p < kMaxGeometry, "expected padding of at least 0, got ", p, " in [top ", padding[0],
          ", left ", padding[1], ", bottom ", padding[2], ", right ", padding[3], "]");
  check(groups >= 1, "expected groups of at least 1, got ", groups);
  return {stride[0],  stride[1],   padding[0],  padding[1], padding[2],
          padding[3], dilation[0], dilation[1], groups};
}

void check_weight(const TensorDesc& d) {
  expect_float(d, "weight");
  check(d.shape.rank() == 4,
        "expected weight of 4 dimensions (out channels, in channels / groups, kernel height, ",
        "kernel width), got ", d.shape.rank(), " (weight ", d.shape, ")");
  for (const std::int64_t n : d.shape)
    check(n >= 1 && n < kMaxGeometry, "expected weight without empty dimensions, got ", d.shape);
}

std::int64_t output_size(std::int64_t in, std::int64_t before, std::int64_t after, std::int64_t kernel,
                         std::int64_t stride, std::int64_t dilation, const char* side,
                         const std::string& operands) {
  check(in < kMaxGeometry, "expected an input ", side, " below ", kMaxGeometry, ", got ", in);
  const std::int64_t padded = in + before + after, extent = checked_product(kernel - 1, dilation) + 1;
  check(extent <= padded, "kernel ", side, " ", extent, (dilation > 1 ? " (dilated)" : ""),
        " is larger than the padded input's ", padded, " (", operands, ")");
  return (padded - extent) / stride + 1;
}

ConvParams params_of(const Geometry& g, const Shape& x, std::int64_t oc, std::int64_t kh, std::int64_t kw,
                     const std::string& operands) {
  ConvParams p;
  p.n = x[0], p.ic = x[1], p.ih = x[2], p.iw = x[3];
  p.oc = oc, p.kh = kh, p.kw = kw;
  p.sh = g.sh, p.sw = g.sw, p.pt = g.pt, p.pl = g.pl, p.pb = g.pb, p.pr = g.pr, p.dh = g.dh, p.dw = g.dw;
  p.groups = g.groups;
  check(oc % g.groups == 0, "expected out channels divisible by ", g.groups, " groups, got ", oc, " (",
        operands, ")");
  p.oh = output_size(p.ih, p.pt, p.pb, kh, p.sh, p.dh, "height", operands);
  p.ow = output_size(p.iw, p.pl, p.pr, kw, p.sw, p.dw, "width", operands);
  checked_product(checked_product(p.n, p.oc), checked_product(p.oh, p.ow));
  checked_product(p.ih + p.pt + p.pb, checked_product(p.iw + p.pl + p.pr, p.ic));  // a padded image
  return p;
}

Attrs geometry_attrs(const Attrs& from) {
  Attrs to;
  for (const char* name : {"stride", "padding", "dilation", "groups"})
    if (from.has(name)) to.set(name, from.items().at(name));
  return to;
}

// The layout pass compares layouts by these; docs/benchmarks.md has the measured shares of the peak.
double conv_efficiency(const Problem& problem, const ConvParams& p, std::int64_t vector_channels) {
  const bool interleaved = problem.inputs[0].layout == Layout::kInterleaved;
  if (interleaved) return 0.65;  // any channel count: a lane is an image
  const std::int64_t width = kernels().width;
  const double lanes = static_cast<double>(vector_channels) /
                       static_cast<double>((vector_channels + width - 1) / width * width);
  const bool winograd =
      p.kh == 3 && p.kw == 3 && p.sh == 1 && p.sw == 1 && p.groups == 1 && p.ic >= width && p.oc >= width;
  return (winograd ? 1.2 : 0.7) * lanes / static_cast<double>(p.groups > 1 && !p.depthwise() ? 2 : 1);
}

Cost conv_cost(const Problem& problem, const ConvParams& p, std::int64_t vector_channels) {
  return {2.0 * p.macs(), conv_efficiency(problem, p, vector_channels)};
}

}  // namespace

double ConvParams::macs() const {
  return static_cast<double>(n) * static_cast<double>(oc) * static_cast<double>(oh * ow) *
         static_cast<double>(gic() * kh * kw);
}

std::string ConvParams::text() const {
  std::string s = str(n, "x", ic, "x", ih, "x", iw, " -> ", oc, ", ", kh, "x", kw);
  if (sh != 1 || sw != 1) s += str(" stride ", sh, "x", sw);
  if (pt || pl || pb || pr) s += str(" padding ", pt, ",", pl, ",", pb, ",", pr);
  if (dh != 1 || dw != 1) s += str(" dilation ", dh, "x", dw);
  if (groups != 1) s += str(" groups ", groups);
  return s;
}

ConvParams conv_forward_params(const Attrs& attrs, const std::vector<TensorDesc>& in) {
  check(in.size() >= 2, "expected input and weight, got ", in.size(), " operands");
  const Geometry g = geometry(attrs);
  expect_map(in[0], "input");
  check_weight(in[1]);
  const Shape &x = in[0].shape, &w = in[1].shape;
  const std::string operands = str("input ", x, ", weight ", w);
  check(x[1] == checked_product(w[1], g.groups), "expected ", w[1] * g.groups, " input channels, got ", x[1],
        " (", operands, (g.groups > 1 ? str(", ", g.groups, " groups") : std::string()), ")");
  return params_of(g, x, w[0], w[2], w[3], operands);
}

ConvParams conv_backward_data_params(const Attrs& attrs, const std::vector<TensorDesc>& in) {
  check(in.size() >= 2, "expected output gradient and weight, got ", in.size(), " operands");
  const Geometry g = geometry(attrs);
  expect_map(in[0], "output gradient");
  check_weight(in[1]);
  const Shape &dy = in[0].shape, &w = in[1].shape;
  check(attrs.has("input_size"), "expected the attribute input_size");
  const auto size = attrs.ints("input_size", 2, 1);
  for (const std::int64_t s : size)
    check(s >= 1, "expected input_size of at least 1, got ", size[0], "x", size[1]);
  const Shape x = {dy[0], checked_product(w[1], g.groups), size[0], size[1]};
  const std::string operands =
      str("output gradient ", dy, ", weight ", w, ", input_size ", size[0], "x", size[1]);
  const ConvParams p = params_of(g, x, w[0], w[2], w[3], operands);
  const Shape y = {p.n, p.oc, p.oh, p.ow};
  check(dy == y, "expected an output gradient of ", y, ", got ", dy, " (", operands, ")");
  return p;
}

ConvParams conv_backward_weights_params(const Attrs& attrs, const std::vector<TensorDesc>& in) {
  check(in.size() >= 2, "expected input and output gradient, got ", in.size(), " operands");
  const Geometry g = geometry(attrs);
  expect_map(in[0], "input");
  expect_map(in[1], "output gradient");
  const Shape &x = in[0].shape, &dy = in[1].shape;
  check(attrs.has("kernel_size"), "expected the attribute kernel_size");
  const auto kernel = attrs.ints("kernel_size", 2, 1);
  for (const std::int64_t k : kernel)
    check(k >= 1 && k < kMaxGeometry, "expected kernel_size of at least 1, got ", kernel[0], "x", kernel[1]);
  const std::string operands =
      str("input ", x, ", output gradient ", dy, ", kernel_size ", kernel[0], "x", kernel[1]);
  check(x[1] % g.groups == 0, "expected input channels divisible by ", g.groups, " groups, got ", x[1], " (",
        operands, ")");
  const ConvParams p = params_of(g, x, dy[1], kernel[0], kernel[1], operands);
  const Shape y = {p.n, p.oc, p.oh, p.ow};
  check(dy == y, "expected an output gradient of ", y, ", got ", dy, " (", operands, ")");
  return p;
}

ConvOperands conv_operands(const Problem& p) {
  ConvOperands o;
  const int extra = (p.fusion.statistics ? 2 : 0) + (p.fusion.add ? 1 : 0);
  int in = static_cast<int>(p.inputs.size()) - extra;
  if (in > 2 && !p.inputs[2].absent) o.bias = 2;
  int out = 1;
  if (p.fusion.statistics) {
    o.running_mean = in++, o.running_var = in++;
    o.mean = out++, o.rstd = out++;
  }
  if (p.fusion.add) o.residual = in++;
  if (p.fusion.pool.kind != PoolSpec::kNone && p.fusion.keep_unpooled) o.unpooled = out++;
  return o;
}

namespace {

// Joins the files' lists. The order is the order of preference.
std::vector<Impl> join(ConvDirection d) {
  std::vector<Impl> all;
  for (const auto& part : {conv2d_interleaved(d), conv2d_depthwise(d), conv2d_winograd(d), conv2d_direct(d)})
    all.insert(all.end(), part.begin(), part.end());
  return all;
}

class Conv2d : public OpDef {
 public:
  const char* name() const override { return "conv2d"; }
  std::vector<TensorDesc> infer(const Attrs& attrs, const std::vector<TensorDesc>& in) const override {
    const ConvParams p = conv_forward_params(attrs, in);
    if (in.size() > 2 && !in[2].absent) {
      expect_float(in[2], "bias");
      check(in[2].shape == Shape{p.oc}, "expected a bias of ", p.oc, " elements, got ", in[2].shape,
            " (weight ", in[1].shape, ")");
    }
    return {batched_desc({p.n, p.oc, p.oh, p.ow})};
  }
  bool batched_input(int i) const override { return i == 0; }
  const std::vector<Impl>& implementations() const override {
    static const std::vector<Impl> list = join(ConvDirection::kForward);
    return list;
  }
  std::vector<ValueId> backward(GradBuilder& g, const Call& call,
                                const std::vector<ValueId>& dy) const override {
    std::vector<ValueId> grads(call.inputs.size(), kNoValue);
    const bool bias = call.inputs.size() > 2 && call.inputs[2] != kNoValue && call.needs[2];
    if (dy[0] == kNoValue) return grads;
    const Shape x = g.desc(call.inputs[0]).shape,
                w = g.desc(call.inputs[1]).shape;  // copies: add() moves them
    if (call.needs[0]) {
      Attrs attrs = geometry_attrs(call.attrs);
      attrs.set("input_size", std::vector<std::int64_t>{x[2], x[3]});
      grads[0] = g.add("conv2d_backward_data", {dy[0], call.inputs[1]}, attrs)[0];
    }
    if (call.needs[1] || bias) {
      Attrs attrs = geometry_attrs(call.attrs);
      attrs.set("kernel_size", std::vector<std::int64_t>{w[2], w[3]});
      const auto dw_db = g.add("conv2d_backward_weights", {call.inputs[0], dy[0]}, attrs);
      if (call.needs[1]) grads[1] = dw_db[0];
      if (bias) grads[2] = dw_db[1];
    }
    return grads;
  }
  Cost cost(const Problem& p) const override {
    const ConvParams c = conv_forward_params(p.attrs, p.inputs);
    return conv_cost(p, c, c.goc());
  }
  bool absorbs(Role role, const Fusion& f, const Attrs&) const override {
    const bool pooled = f.pool.kind != PoolSpec::kNone, activated = f.activation != Activation::kNone;
    if (f.statistics || pooled || f.act_grad != Activation::kNone)
      return false;  // each of these is the last word
    switch (role) {
      case Role::kStatistics:
        return !f.add && !activated;
      case Role::kAdd:
        return !f.add && !activated;
      case Role::kActivation:
        return !activated;
      case Role::kPool:
        return true;
      case Role::kChannelAffine:
        return f.empty();  // by the graph, into the weights
      default:
        return false;
    }
  }
};

class Conv2dBackwardData : public OpDef {
 public:
  const char* name() const override { return "conv2d_backward_data"; }
  std::vector<TensorDesc> infer(const Attrs& attrs, const std::vector<TensorDesc>& in) const override {
    const ConvParams p = conv_backward_data_params(attrs, in);
    return {batched_desc({p.n, p.ic, p.ih, p.iw})};
  }
  bool batched_input(int i) const override { return i == 0; }
  const std::vector<Impl>& implementations() const override {
    static const std::vector<Impl> list = join(ConvDirection::kBackwardData);
    return list;
  }
  Cost cost(const Problem& p) const override {
    const ConvParams c = conv_backward_data_params(p.attrs, p.inputs);
    return conv_cost(p, c, c.gic());
  }
  bool absorbs(Role role, const Fusion& f, const Attrs&) const override {
    return role == Role::kAdd && f.empty();
  }
};

class Conv2dBackwardWeights : public OpDef {
 public:
  const char* name() const override { return "conv2d_backward_weights"; }
  std::vector<TensorDesc> infer(const Attrs& attrs, const std::vector<TensorDesc>& in) const override {
    const ConvParams p = conv_backward_weights_params(attrs, in);
    return {plain_desc({p.oc, p.gic(), p.kh, p.kw}), plain_desc({p.oc})};
  }
  bool batched_input(int i) const override { return i == 0 || i == 1; }
  const std::vector<Impl>& implementations() const override {
    static const std::vector<Impl> list = join(ConvDirection::kBackwardWeights);
    return list;
  }
  Cost cost(const Problem& p) const override {
    const ConvParams c = conv_backward_weights_params(p.attrs, p.inputs);
    return conv_cost(p, c, c.goc());
  }
};

// w'[o] = w[o] * gamma[o] rstd[o], b'[o] = (b[o] - mean[o]) gamma[o] rstd[o] + beta[o]. Once per network, in
// double.
class FoldChannelAffinePlain : public Prepared {
 public:
  explicit FoldChannelAffinePlain(const Problem& p)
      : channels_(p.outputs[1].shape[0]),
        per_channel_(p.outputs[0].shape.numel() / channels_),
        eps_(p.attrs.number("eps", 1e-5)) {}
  void run(const RunArgs& a) const override {
    const auto in = [&](int i) { return static_cast<const float*>(a.in[i]); };
    auto* w = static_cast<float*>(a.out[0]);
    auto* b = static_cast<float*>(a.out[1]);
    for (std::int64_t o = 0; o < channels_; ++o) {
      const double scale = (in(4) ? in(4)[o] : 1.0) / std::sqrt(static_cast<double>(in(3)[o]) + eps_);
      for (std::int64_t i = o * per_channel_; i < (o + 1) * per_channel_; ++i)
        w[i] = static_cast<float>(in(0)[i] * scale);
      const double shift = ((in(1) ? in(1)[o] : 0.0) - in(2)[o]) * scale + (in(5) ? in(5)[o] : 0.0);
      b[o] = static_cast<float>(shift);
    }
  }

 private:
  std::int64_t channels_, per_channel_;
  double eps_;
};

class FoldChannelAffine : public OpDef {
 public:
  const char* name() const override { return "fold_channel_affine"; }
  std::vector<TensorDesc> infer(const Attrs& attrs, const std::vector<TensorDesc>& in) const override {
    check(in.size() == 6, "expected w, b, running_mean, running_var, gamma and beta, got ", in.size(),
          " operands");
    check(attrs.number("eps", 1e-5) >= 0, "expected eps of at least 0, got ", attrs.number("eps", 1e-5));
    expect_float(in[0], "weight");
    check(in[0].shape.rank() >= 1 && in[0].shape.numel() > 0, "expected a weight with elements, got ",
          in[0].shape);
    const Shape vector = {in[0].shape[0]};
    static const char* const names[] = {"weight", "bias", "running_mean", "running_var", "gamma", "beta"};
    for (std::size_t i = 1; i < 6; ++i) {
      if (in[i].absent) {
        check(i != 2 && i != 3, "expected ", names[i], ", got none");
        continue;
      }
      expect_float(in[i], names[i]);
      check(in[i].shape == vector, "expected ", names[i], " of ", vector[0], " elements, got ", in[i].shape,
            " (weight ", in[0].shape, ")");
    }
    return {plain_desc(in[0].shape), plain_desc(vector)};
  }
  bool batched_input(int) const override { return false; }
  const std::vector<Impl>& implementations() const override {
    static const std::vector<Impl> list = {
        {"plain", [](const Problem&) { return std::string(); }, prepare<FoldChannelAffinePlain>}};
    return list;
  }
};

}  // namespace

void register_conv2d(Registry& r) {
  static const Conv2d forward;
  static const Conv2dBackwardData backward_data;
  static const Conv2dBackwardWeights backward_weights;
  static const FoldChannelAffine fold;
  for (const OpDef* op :
       std::initializer_list<const OpDef*>{&forward, &backward_data, &backward_weights, &fold})
    r.add(*op);
}

}  // namespace fastcnn::ops

// Max, average, global and adaptive average pooling and their backward ops: checks, windows, backward rules.
// run.cpp runs them.
#include "ops/pool/pool.h"

#include <algorithm>

#include "ops/checks.h"
#include "ops/registry.h"

namespace fastcnn::ops {
namespace {

constexpr std::int64_t kMaxSide = std::int64_t{1} << 24;  // sums and products of two stay exact in int64

struct Axis {
  std::vector<PoolWindow> windows;
  std::vector<PoolCover> cover;
  bool tiled = true;
};

// The windows that hold each input position; they are consecutive because begins and ends never decrease.
void add_cover(Axis& axis, std::int64_t in) {
  axis.cover.assign(static_cast<std::size_t>(in), {0, 0});
  for (std::size_t o = 0; o < axis.windows.size(); ++o) {
    const PoolWindow& w = axis.windows[o];
    if (o && w.begin < axis.windows[o - 1].end) axis.tiled = false;
    for (std::int32_t i = w.begin; i < w.end; ++i) {
      PoolCover& c = axis.cover[static_cast<std::size_t>(i)];
      if (c.begin == c.end) c.begin = static_cast<std::int32_t>(o);
      c.end = static_cast<std::int32_t>(o) + 1;
    }
  }
}

std::int64_t pooled_size(std::int64_t in, std::int64_t before, std::int64_t after, std::int64_t kernel,
                         std::int64_t stride, bool ceil_mode) {
  const std::int64_t room = in + before + after - kernel;
  if (room < 0) return 0;
  std::int64_t out = (room + (ceil_mode ? stride - 1 : 0)) / stride + 1;
  // the last window must start inside the input or the padding before it
  if (ceil_mode && (out - 1) * stride >= in + before) --out;
  return out;
}

Axis fixed_axis(std::int64_t in, std::int64_t before, std::int64_t after, std::int64_t kernel,
                std::int64_t stride, bool ceil_mode, bool count_padding) {
  Axis axis;
  const std::int64_t out = pooled_size(in, before, after, kernel, stride, ceil_mode);
  for (std::int64_t o = 0; o < out; ++o) {
    const std::int64_t origin = o * stride - before, padded_end = std::min(origin + kernel, in + after);
    const std::int64_t begin = std::max<std::int64_t>(origin, 0), end = std::min(padded_end, in);
    const std::int64_t count = count_padding ? padded_end - origin : end - begin;
    axis.windows.push_back({static_cast<std::int32_t>(begin), static_cast<std::int32_t>(end),
                            static_cast<std::int32_t>(origin), static_cast<std::int32_t>(count)});
  }
  add_cover(axis, in);
  return axis;
}

Axis adaptive_axis(std::int64_t in, std::int64_t out) {
  Axis axis;
  for (std::int64_t o = 0; o < out; ++o) {
    const auto begin = static_cast<std::int32_t>(o * in / out);
    const auto end = static_cast<std::int32_t>(((o + 1) * in + out - 1) / out);
    axis.windows.push_back({begin, end, begin, end - begin});
  }
  add_cover(axis, in);
  return axis;
}

void set_axes(PoolGeometry& g, Axis rows, Axis cols) {
  g.tiled = rows.tiled && cols.tiled;
  g.oh = static_cast<std::int64_t>(rows.windows.size()),
  g.ow = static_cast<std::int64_t>(cols.windows.size());
  g.rows = std::move(rows.windows), g.row_cover = std::move(rows.cover);
  g.cols = std::move(cols.windows), g.col_cover = std::move(cols.cover);
}

void set_fixed_windows(PoolGeometry& g, PoolOp op, const Attrs& attrs, const Shape& x) {
  check(attrs.has("kernel_size"), "expected the attribute kernel_size");
  const auto kernel = attrs.ints("kernel_size", 2, 1), padding = attrs.ints("padding", 4, 0);
  auto stride = kernel;
  if (attrs.has("stride")) stride = attrs.ints("stride", 2, 1);
  for (const std::int64_t k : kernel)
    check(k >= 1 && k < kMaxSide, "expected kernel_size of at least 1, got ", kernel[0], "x", kernel[1]);
  for (const std::int64_t s : stride)
    check(s >= 1 && s < kMaxSide, "expected stride of at least 1, got ", stride[0], "x", stride[1]);
  for (int i = 0; i < 4; ++i)
    // Smaller than the kernel: every window then holds at least one pixel.
    check(padding[i] >= 0 && padding[i] < kernel[i % 2],
          "expected padding of at least 0 and smaller than the kernel, got top ", padding[0], ", left ",
          padding[1], ", bottom ", padding[2], ", right ", padding[3], " (kernel ", kernel[0], "x", kernel[1],
          ")");
  const bool ceil_mode = attrs.flag("ceil_mode", false);
  const bool count_padding = op == PoolOp::kAverage && attrs.flag("count_include_pad", true);
  g.kh = kernel[0], g.kw = kernel[1];
  set_axes(g, fixed_axis(g.ih, padding[0], padding[2], g.kh, stride[0], ceil_mode, count_padding),
           fixed_axis(g.iw, padding[1], padding[3], g.kw, stride[1], ceil_mode, count_padding));
  check(g.oh >= 1 && g.ow >= 1, "window ", g.kh, "x", g.kw, " is larger than the padded input ",
        g.ih + padding[0] + padding[2], "x", g.iw + padding[1] + padding[3], " (input ", x, ")");
}

Attrs attrs_for_backward(const Call& call, const Shape& x) {
  Attrs attrs = call.attrs;
  attrs.set("input_size", std::vector<std::int64_t>{x[2], x[3]});
  return attrs;
}

struct Names {
  const char *forward, *backward;
};
constexpr Names names_of(PoolOp op) {
  switch (op) {
    case PoolOp::kMax:
      return {"max_pool2d", "max_pool2d_backward"};
    case PoolOp::kAverage:
      return {"avg_pool2d", "avg_pool2d_backward"};
    case PoolOp::kGlobalAverage:
      return {"global_avg_pool2d", "global_avg_pool2d_backward"};
    case PoolOp::kAdaptiveAverage:
      return {"adaptive_avg_pool2d", "adaptive_avg_pool2d_backward"};
  }
  return {"", ""};
}

template <PoolOp kOp>
class Pool : public OpDef {
 public:
  const char* name() const override { return names_of(kOp).forward; }
  std::vector<TensorDesc> infer(const Attrs& attrs, const std::vector<TensorDesc>& in) const override {
    expect_inputs(in, 1, 1, "one input");
    expect_map(in[0], "input");
    const PoolGeometry g = pool_geometry(kOp, attrs, in[0].shape);
    const Shape y = {g.n, g.c, g.oh, g.ow};
    if (kOp == PoolOp::kMax) return {batched_desc(y), batched_desc(y, index_type(g.kh, g.kw))};
    return {batched_desc(y)};
  }
  bool batched_input(int) const override { return true; }
  const std::vector<Impl>& implementations() const override {
    static const std::vector<Impl> list = pool_implementations<kOp, PoolDirection::kForward>();
    return list;
  }
  std::vector<ValueId> backward(GradBuilder& g, const Call& call,
                                const std::vector<ValueId>& dy) const override {
    if (dy[0] == kNoValue || !call.needs[0]) return {kNoValue};
    std::vector<ValueId> inputs = {dy[0]};
    if (kOp == PoolOp::kMax) inputs.push_back(call.outputs[1]);
    const Attrs attrs = attrs_for_backward(call, g.desc(call.inputs[0]).shape);
    return {g.add(names_of(kOp).backward, inputs, attrs)[0]};
  }
  Cost cost(const Problem& p) const override {
    const PoolGeometry g = pool_geometry(kOp, p.attrs, p.inputs[0].shape);
    return {static_cast<double>(g.n * g.c) * g.taps()};
  }
  Role role(const Attrs&) const override {
    return kOp == PoolOp::kMax || kOp == PoolOp::kAverage ? Role::kPool : Role::kNone;
  }
  // Absorbable where windows are whole: no padding, and no row that only ceil mode reaches. Whether the last
  // windows fit is known by the shapes alone, so ceil mode is refused here.
  PoolSpec pool(const Attrs& attrs) const override {
    PoolSpec spec;
    if (role(attrs) != Role::kPool || attrs.flag("ceil_mode", false)) return spec;
    for (const std::int64_t pad : attrs.ints("padding", 4, 0))
      if (pad != 0) return spec;
    const auto kernel = attrs.ints("kernel_size", 2, 1);
    const auto stride = attrs.has("stride") ? attrs.ints("stride", 2, 1) : kernel;
    for (int i = 0; i < 2; ++i) spec.kernel[i] = kernel[i], spec.stride[i] = stride[i];
    spec.kind = kOp == PoolOp::kMax ? PoolSpec::kMax : PoolSpec::kAverage;
    return spec;
  }
};

template <PoolOp kOp>
class PoolBackward : public OpDef {
 public:
  const char* name() const override { return names_of(kOp).backward; }
  std::vector<TensorDesc> infer(const Attrs& attrs, const std::vector<TensorDesc>& in) const override {
    if (kOp == PoolOp::kMax)
      expect_inputs(in, 2, 2, "the output's gradient and the index");
    else
      expect_inputs(in, 1, 1, "the output's gradient");
    expect_map(in[0], "output gradient");
    const PoolGeometry g = pool_backward_geometry(kOp, attrs, in[0].shape);
    const Shape x = {g.n, g.c, g.ih, g.iw};
    const Shape y = {g.n, g.c, g.oh, g.ow};
    check(in[0].shape == y, "expected an output gradient of ", y, ", got ", in[0].shape, " (input ", x, ")");
    if (kOp == PoolOp::kMax) {
      const DType type = index_type(g.kh, g.kw);
      if (in[1].dtype != type)
        throw TypeError(str("expected ", name_of(type), " index for a window of ", g.kh, "x", g.kw, ", got ",
                            name_of(in[1].dtype)));
      check(in[1].shape == y, "expected an index of ", y, ", got ", in[1].shape);
    }
    return {batched_desc(x)};
  }
  bool batched_input(int) const override { return true; }
  bool absorbs(Role role, const Fusion& f, const Attrs&) const override {
    return role == Role::kActivationGradAfter && f.empty();
  }
  const std::vector<Impl>& implementations() const override {
    static const std::vector<Impl> list = pool_implementations<kOp, PoolDirection::kBackward>();
    return list;
  }
  Cost cost(const Problem& p) const override {
    const PoolGeometry g = pool_backward_geometry(kOp, p.attrs, p.inputs[0].shape);
    return {static_cast<double>(g.n * g.c) * g.taps()};
  }
};

}  // namespace

double PoolGeometry::taps() const {
  double h = 0, w = 0;
  for (const PoolWindow& r : rows) h += r.end - r.begin;
  for (const PoolWindow& r : cols) w += r.end - r.begin;
  return h * w;
}

PoolGeometry pool_geometry(PoolOp op, const Attrs& attrs, const Shape& x) {
  PoolGeometry g;
  g.n = x[0], g.c = x[1], g.ih = x[2], g.iw = x[3];
  check(g.ih < kMaxSide && g.iw < kMaxSide, "expected an input height and width below ", kMaxSide, ", got ",
        x);
  switch (op) {
    case PoolOp::kGlobalAverage:
      set_axes(g, adaptive_axis(g.ih, 1), adaptive_axis(g.iw, 1));
      break;
    case PoolOp::kAdaptiveAverage: {
      check(attrs.has("output_size"), "expected the attribute output_size");
      const auto size = attrs.ints("output_size", 2, 1);
      for (const std::int64_t s : size)
        check(s >= 1 && s < kMaxSide, "expected output_size of at least 1, got ", size[0], "x", size[1]);
      set_axes(g, adaptive_axis(g.ih, size[0]), adaptive_axis(g.iw, size[1]));
      break;
    }
    default:
      set_fixed_windows(g, op, attrs, x);
  }
  check(g.kh * g.kw <= INT32_MAX, "expected fewer than 2^31 taps per window, got ", g.kh, "x", g.kw);
  checked_product(checked_product(g.n, g.c), checked_product(g.oh, g.ow));
  return g;
}

PoolGeometry pool_backward_geometry(PoolOp op, const Attrs& attrs, const Shape& dy) {
  check(attrs.has("input_size"), "expected the attribute input_size");
  const auto size = attrs.ints("input_size", 2, 1);
  for (const std::int64_t s : size)
    check(s >= 1, "expected input_size of at least 1, got ", size[0], "x", size[1]);
  Attrs forward = attrs;
  if (op == PoolOp::kAdaptiveAverage) forward.set("output_size", std::vector<std::int64_t>{dy[2], dy[3]});
  return pool_geometry(op, forward, {dy[0], dy[1], size[0], size[1]});
}

void register_pool(Registry& r) {
  static const Pool<PoolOp::kMax> max;
  static const Pool<PoolOp::kAverage> average;
  static const Pool<PoolOp::kGlobalAverage> global;
  static const Pool<PoolOp::kAdaptiveAverage> adaptive;
  static const PoolBackward<PoolOp::kMax> max_backward;
  static const PoolBackward<PoolOp::kAverage> average_backward;
  static const PoolBackward<PoolOp::kGlobalAverage> global_backward;
  static const PoolBackward<PoolOp::kAdaptiveAverage> adaptive_backward;
  for (const OpDef* op :
       std::initializer_list<const OpDef*>{&max, &average, &global, &adaptive, &max_backward,
                                           &average_backward, &global_backward, &adaptive_backward})
    r.add(*op);
}

}  // namespace fastcnn::ops

// Max, average, global and adaptive average pooling over one to three dimensions and their backward ops:
// checks, windows, backward rules. run.cpp runs them.
#include "ops/pool/pool.h"

#include <algorithm>

#include "ops/registry.h"

namespace fastcnn::ops {
namespace {

using Axis = PoolGeometry::Axis;
using Ints = std::vector<std::int64_t>;

constexpr std::int64_t kMaxSide = std::int64_t{1} << 24;  // sums and products of two stay exact in int64

// "3x3"
std::string text_of(const Ints& sizes) {
  std::string text;
  for (const std::int64_t s : sizes) text += (text.empty() ? "" : "x") + std::to_string(s);
  return text;
}

Ints sizes_of(const Attrs& attrs, const char* name, int rank) {
  const Ints sizes = attrs.ints(name, rank);
  for (const std::int64_t s : sizes) {
    check(s >= 1, "expected ", name, " of at least 1, got ", text_of(sizes));
    check(s < kMaxSide, "expected ", name, " below ", kMaxSide, ", got ", text_of(sizes));
  }
  return sizes;
}

void add_window(Axis& axis, std::int64_t begin, std::int64_t end, std::int64_t origin, std::int64_t count) {
  if (!axis.windows.empty() && begin < axis.windows.back().end) axis.tiled = false;
  const auto o = static_cast<std::int32_t>(axis.windows.size());
  // The windows that hold a position are consecutive because begins and ends never decrease.
  for (std::int64_t i = begin; i < end; ++i) {
    PoolCover& c = axis.cover[static_cast<std::size_t>(i)];
    if (c.begin == c.end) c.begin = o;
    c.end = o + 1;
  }
  axis.windows.push_back({static_cast<std::int32_t>(begin), static_cast<std::int32_t>(end),
                          static_cast<std::int32_t>(origin), static_cast<std::int32_t>(count)});
  axis.taps += static_cast<double>(end - begin);
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

Axis axis_of(std::int64_t in) {
  Axis axis;
  axis.in = in;
  axis.cover.assign(static_cast<std::size_t>(in), {0, 0});
  return axis;
}

Axis adaptive_axis(std::int64_t in, std::int64_t out) {
  Axis axis = axis_of(in);
  axis.out = out;
  for (std::int64_t o = 0; o < out; ++o) {
    const std::int64_t begin = o * in / out, end = ((o + 1) * in + out - 1) / out;
    axis.kernel = std::max(axis.kernel, end - begin);
    add_window(axis, begin, end, begin, end - begin);
  }
  return axis;
}

// size: of the input, [rank].
void set_fixed_windows(PoolGeometry& g, const Attrs& attrs, const Shape& x, const Ints& size) {
  const auto rank = size.size();
  const int r = static_cast<int>(rank);
  const Ints kernel = sizes_of(attrs, "kernel_size", r), padding = attrs.ints("padding", 2 * r);
  const Ints stride = attrs.has("stride") ? sizes_of(attrs, "stride", r) : kernel;
  const Ints before(padding.begin(), padding.begin() + r), after(padding.begin() + r, padding.end());
  for (std::size_t i = 0; i < 2 * rank; ++i)
    // Smaller than the kernel: every window then holds at least one pixel.
    check(padding[i] >= 0 && padding[i] < kernel[i % rank],
          "expected padding of at least 0 and smaller than the kernel, got ", text_of(before), " before and ",
          text_of(after), " after (kernel ", text_of(kernel), ")");
  const bool ceil_mode = attrs.flag("ceil_mode");
  const bool count_padding = g.kind == PoolKind::kAverage && attrs.flag("count_include_pad");
  g.whole = !ceil_mode && std::count(padding.begin(), padding.end(), 0) == 2 * r;
  Ints padded = size;
  bool fits = true;
  for (std::size_t i = 0; i < rank; ++i) {
    padded[i] += before[i] + after[i];
    const std::int64_t out = pooled_size(size[i], before[i], after[i], kernel[i], stride[i], ceil_mode);
    fits = fits && out >= 1;
    Axis axis = axis_of(size[i]);
    axis.out = out, axis.kernel = kernel[i], axis.stride = stride[i];
    for (std::int64_t o = 0; o < out; ++o) {
      const std::int64_t origin = o * stride[i] - before[i];
      const std::int64_t padded_end = std::min(origin + kernel[i], size[i] + after[i]);
      const std::int64_t begin = std::max<std::int64_t>(origin, 0), end = std::min(padded_end, size[i]);
      add_window(axis, begin, end, origin, count_padding ? padded_end - origin : end - begin);
    }
    g.axes[3 - rank + i] = std::move(axis);
  }
  check(fits, "window ", text_of(kernel), " is larger than the padded input ", text_of(padded), " (input ", x,
        ")");
}

bool is_fixed(PoolKind kind) { return kind == PoolKind::kMax || kind == PoolKind::kAverage; }

std::vector<AttrSpec> attributes_of(PoolKind kind) {
  std::vector<AttrSpec> specs;
  if (is_fixed(kind))
    specs = {{"kernel_size", AttrKind::kIntegers, {}, true},
             {"stride", AttrKind::kIntegers},  // default: kernel_size
             {"padding", AttrKind::kIntegers, std::int64_t{0}},
             {"ceil_mode", AttrKind::kInteger, std::int64_t{0}}};
  if (kind == PoolKind::kAverage) specs.push_back({"count_include_pad", AttrKind::kInteger, std::int64_t{1}});
  if (kind == PoolKind::kAdaptiveAverage) specs.push_back({"output_size", AttrKind::kIntegers, {}, true});
  return specs;
}

constexpr const char* kNames[] = {"max_pool", "avg_pool", "global_avg_pool", "adaptive_avg_pool"};

class Pool : public MapOp {
 public:
  Pool(PoolKind kind, int rank, bool backward)
      : MapOp(str(kNames[static_cast<int>(kind)], rank, "d"), attributes_of(kind), pool_implementations(),
              backward),
        kind_(kind),
        rank_(rank) {}

  Inferred infer(const Attrs& attrs, const std::vector<TensorDesc>& in) const override {
    if (backward_ && kind_ == PoolKind::kMax)
      expect_inputs(in, 2, 2, "the output's gradient and the index");
    else
      expect_inputs(in, 1, 1, backward_ ? "the output's gradient" : "one input");
    expect_map(in[0], operand(), rank_);
    const Shape& given = in[0].shape;
    Ints x = given.vec(), y = x;
    const Ints size = backward_ ? sizes_of(attrs, "input_size", rank_) : Ints(given.begin() + 2, given.end());
    std::copy(size.begin(), size.end(), x.begin() + 2);
    auto g = std::make_shared<PoolGeometry>();
    g->kind = kind_, g->backward = backward_;
    set_windows(*g, attrs, Shape(x), size);
    for (int i = 0; i < rank_; ++i) y[static_cast<std::size_t>(2 + i)] = g->axes[3 - rank_ + i].out;
    Inferred made = inferred(given, Shape(x), Shape(y), g);
    if (kind_ != PoolKind::kMax) return made;
    if (backward_)
      expect_index(in[1], *g, Shape(y));
    else
      made.outputs.push_back(batched_desc(Shape(y), g->index_type()));
    return made;
  }
  bool optional_output(int i) const override { return i == 1; }  // the index
  Cost cost(const Problem& p) const override {
    const Shape& s = p.inputs[0].shape;
    double taps = static_cast<double>(s[0] * s[1]);
    for (const Axis& axis : facts_of<PoolGeometry>(p).axes) taps *= axis.taps;
    return {taps};
  }
  // Where windows are whole. Whether the last ones fit in ceil mode is known by the shapes alone, so ceil
  // mode is refused.
  PostOp as_post(const Facts* facts) const override {
    const auto& g = *static_cast<const PoolGeometry*>(facts);
    PostOp post;
    if (backward_ || !g.whole || g.axes[0].in != 1) return post;
    post.kind = PostKind::kPool;
    post.pool.average = kind_ == PoolKind::kAverage;
    for (int i = 0; i < 3; ++i)
      post.pool.kernel[i] = g.axes[i].kernel, post.pool.stride[i] = g.axes[i].stride;
    return post;
  }

 private:
  void set_windows(PoolGeometry& g, const Attrs& attrs, const Shape& x, const Ints& size) const {
    for (const std::int64_t s : size)
      check(s < kMaxSide, "expected input sizes below ", kMaxSide, ", got ", x);
    for (Axis& axis : g.axes) axis = adaptive_axis(1, 1);
    if (is_fixed(kind_)) {
      set_fixed_windows(g, attrs, x, size);
    } else {
      const Ints out =
          kind_ == PoolKind::kGlobalAverage ? Ints(size.size(), 1) : sizes_of(attrs, "output_size", rank_);
      for (std::size_t i = 0; i < size.size(); ++i)
        g.axes[3 - size.size() + i] = adaptive_axis(size[i], out[i]);
    }
    check(g.taps() <= INT32_MAX, "expected fewer than 2^31 taps per window, got ", g.taps(), " (input ", x,
          ")");
  }
  static void expect_index(const TensorDesc& index, const PoolGeometry& g, const Shape& y) {
    if (index.dtype != g.index_type())
      throw TypeError(str("expected ", fastcnn::name_of(g.index_type()), " index for a window of ",
                          static_cast<std::int64_t>(g.taps()), " taps, got ", fastcnn::name_of(index.dtype)));
    check(index.shape == y, "expected an index of ", y, ", got ", index.shape);
  }

  PoolKind kind_;
  int rank_;
};

}  // namespace

void register_pool(Registry& r) {
  for (const PoolKind kind :
       {PoolKind::kMax, PoolKind::kAverage, PoolKind::kGlobalAverage, PoolKind::kAdaptiveAverage})
    for (int rank = 1; rank <= 3; ++rank)
      for (const bool backward : {false, true}) r.add<Pool>(kind, rank, backward);
}

}  // namespace fastcnn::ops

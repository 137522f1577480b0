// Ops that move elements without arithmetic: flatten, unflatten, concat, channel slices and padding,
// subsampling.
#include <algorithm>

#include "core/parallel.h"
#include "kernels/layout.h"
#include "kernels/table.h"
#include "ops/block.h"
#include "ops/checks.h"
#include "ops/pieces.h"
#include "ops/registry.h"

namespace fastcnn::ops {
namespace {

// --- flatten, unflatten ---------------------------------------------------------------------------------

// Channels-last images to rows in (C, H, W) order, or back.
template <bool kFlatten>
class MoveChannels : public Prepared {
 public:
  explicit MoveChannels(const Problem& p) {
    const Shape& map = kFlatten ? p.inputs[0].shape : p.outputs[0].shape;
    n_ = map[0], c_ = map[1], hw_ = map[2] * map[3];
  }
  void run(const RunArgs& a) const override {
    parallel_for(n_, [&](std::int64_t n, int) {
      const float* from = floats(a.in[0]) + n * c_ * hw_;
      float* to = floats(a.out[0]) + n * c_ * hw_;
      if (kFlatten)
        kernels().layout->transpose(from, c_, hw_, c_, to, hw_);
      else
        kernels().layout->transpose(from, hw_, c_, hw_, to, c_);
    });
  }

 private:
  std::int64_t n_, c_, hw_;
};

// The value of rank 4 decides: the other one has no order of its own.
const TensorDesc& map_of(const Problem& p) {
  return p.inputs[0].shape.rank() == 4 ? p.inputs[0] : p.outputs[0];
}
std::string unless_view(const Problem& p) {
  const bool interleaved = p.inputs[0].layout == Layout::kInterleaved;
  if (interleaved != (p.outputs[0].layout == Layout::kInterleaved)) return "takes values that lie alike";
  if (interleaved || same_memory(map_of(p), map_of(p).layout, Layout::kPlain)) return "";
  return "the channels have to move";
}
std::string unless_channels_last(const Problem& p) {
  const TensorDesc& flat = p.inputs[0].shape.rank() == 4 ? p.outputs[0] : p.inputs[0];
  return map_of(p).shape.rank() == 4 && map_of(p).layout == Layout::kNHWC &&
                 flat.layout != Layout::kInterleaved
             ? ""
             : "takes nhwc values to rows and back";
}

std::vector<std::int64_t> chw_of(const Shape& s) { return {s[1], s[2], s[3]}; }

class Flatten : public OpDef {
 public:
  const char* name() const override { return "flatten"; }
  std::vector<TensorDesc> infer(const Attrs&, const std::vector<TensorDesc>& in) const override {
    expect_inputs(in, 1, 1, "one input");
    expect_batch(in[0], "input");
    const Shape& s = in[0].shape;
    std::int64_t features = 1;
    for (int i = 1; i < s.rank(); ++i) features = checked_product(features, s[i]);
    return {batched_desc({s[0], features})};
  }
  bool batched_input(int) const override { return true; }
  const std::vector<Impl>& implementations() const override {
    static const std::vector<Impl> list = {{"view", unless_view, prepare<SameBytes>},
                                           {"transpose", unless_channels_last, prepare<MoveChannels<true>>}};
    return list;
  }
  std::vector<ValueId> backward(GradBuilder& g, const Call& call,
                                const std::vector<ValueId>& dy) const override {
    if (dy[0] == kNoValue || !call.needs[0]) return {kNoValue};
    const Shape& x = g.desc(call.inputs[0]).shape;
    if (x.rank() != 4) return {dy[0]};
    return {g.add("unflatten", {dy[0]}, {{"chw", chw_of(x)}})[0]};
  }
  Cost cost(const Problem&) const override { return {0}; }
};

class Unflatten : public OpDef {
 public:
  const char* name() const override { return "unflatten"; }
  std::vector<TensorDesc> infer(const Attrs& attrs, const std::vector<TensorDesc>& in) const override {
    expect_inputs(in, 1, 1, "one input");
    expect_batch(in[0], "input");
    check(in[0].shape.rank() == 2, "expected input (N, features), got ", in[0].shape);
    check(attrs.has("chw"), "expected the attribute chw");
    const auto chw = attrs.ints("chw", 3, 1);
    for (const std::int64_t d : chw)
      check(d >= 1, "expected chw of at least 1, got ", chw[0], "x", chw[1], "x", chw[2]);
    const std::int64_t features = checked_product(checked_product(chw[0], chw[1]), chw[2]);
    check(features == in[0].shape[1], "expected ", features, " features for ", chw[0], "x", chw[1], "x",
          chw[2], ", got ", in[0].shape);
    return {batched_desc({in[0].shape[0], chw[0], chw[1], chw[2]})};
  }
  bool batched_input(int) const override { return true; }
  const std::vector<Impl>& implementations() const override {
    static const std::vector<Impl> list = {{"view", unless_view, prepare<SameBytes>},
                                           {"transpose", unless_channels_last, prepare<MoveChannels<false>>}};
    return list;
  }
  std::vector<ValueId> backward(GradBuilder& g, const Call& call,
                                const std::vector<ValueId>& dy) const override {
    if (dy[0] == kNoValue || !call.needs[0]) return {kNoValue};
    return {g.add("flatten", {dy[0]}, {})[0]};
  }
  Cost cost(const Problem&) const override { return {0}; }
};

// --- concat, slice_channels, pad_channels ---------------------------------------------------------------

// A run of rows copied from an input (or zeroed: input -1) into the output.
struct Piece {
  int input;
  std::int64_t from, to, n;  // offset in the input's row, in the output's row, elements
};

// Channels are the slow part of a plain image or of an interleaved block and the fast part of a channels-last
// pixel: a row is an image, a block or a pixel, and its channels are consecutive in each.
struct ChannelCopy {
  std::vector<Piece> pieces;
  std::vector<std::int64_t> in_row;
  std::int64_t out_row = 0, rows = 0;

  // `pieces_of_channels` counts channels; each is `per_channel` elements of a row.
  ChannelCopy(const Problem& p, const std::vector<Piece>& pieces_of_channels) : pieces(pieces_of_channels) {
    const Shape& y = p.outputs[0].shape;
    const std::int64_t pixels = y.rank() == 4 ? y[2] * y[3] : 1;
    const Layout layout = layout_of(p);
    const bool per_pixel = layout == Layout::kNHWC && y.rank() == 4;
    const std::int64_t per_channel = layout == Layout::kInterleaved ? pixels * kernels().width
                                     : per_pixel                    ? 1
                                                                    : pixels;
    rows = layout == Layout::kInterleaved ? 1 : per_pixel ? y[0] * pixels : y[0];
    for (Piece& piece : pieces) piece.from *= per_channel, piece.to *= per_channel, piece.n *= per_channel;
    for (const TensorDesc& d : p.inputs) in_row.push_back(d.shape[1] * per_channel);
    out_row = y[1] * per_channel;
  }
  void copy(const void* const* in, void* out, std::int64_t first, std::int64_t count) const {
    const LayoutKernels& k = *kernels().layout;
    for (const Piece& piece : pieces) {
      float* const to = floats(out) + first * out_row + piece.to;
      if (piece.input < 0) {
        k.zero_rows(to, out_row, count, piece.n);
        continue;
      }
      const std::int64_t ls = in_row[static_cast<std::size_t>(piece.input)];
      k.copy_rows(floats(in[piece.input]) + first * ls + piece.from, ls, to, out_row, count, piece.n);
    }
  }
};

class CopyRows : public Prepared {
 public:
  explicit CopyRows(ChannelCopy copy) : copy_(std::move(copy)) {
    rows_ = std::max<std::int64_t>(1, kFlatItem / std::max<std::int64_t>(1, copy_.out_row));
  }
  void run(const RunArgs& a) const override {
    parallel_for((copy_.rows + rows_ - 1) / rows_, [&](std::int64_t item, int) {
      copy_.copy(a.in, a.out[0], item * rows_, std::min(rows_, copy_.rows - item * rows_));
    });
  }

 private:
  ChannelCopy copy_;
  std::int64_t rows_;
};

class CopyBlock : public BlockOp {
 public:
  CopyBlock(const Problem& p, ChannelCopy copy) : BlockOp(p), copy_(std::move(copy)) {}
  void block(const BlockArgs& a) const override { copy_.copy(a.in, a.out[0], 0, 1); }

 private:
  ChannelCopy copy_;
};

std::unique_ptr<Prepared> prepare_copy(const Problem& p, const std::vector<Piece>& pieces) {
  ChannelCopy copy(p, pieces);
  if (layout_of(p) == Layout::kInterleaved) return std::make_unique<CopyBlock>(p, std::move(copy));
  return std::make_unique<CopyRows>(std::move(copy));
}

Shape with_channels(const Shape& s, std::int64_t c) {
  std::vector<std::int64_t> dims = s.vec();
  dims[1] = c;
  return Shape(dims);
}

class Concat : public OpDef {
 public:
  const char* name() const override { return "concat"; }
  std::vector<TensorDesc> infer(const Attrs& attrs, const std::vector<TensorDesc>& in) const override {
    check(attrs.integer("axis", 1) == 1, "axis: expected 1 (channels), got ", attrs.integer("axis", 1));
    check(!in.empty() && in.size() <= 16, "expected 1 to 16 inputs, got ", in.size());
    std::int64_t channels = 0;
    for (std::size_t i = 0; i < in.size(); ++i) {
      check(!in[i].absent, "expected input ", i, ", got none");
      expect_batch(in[i], "input");
      check(in[i].shape.rank() == in[0].shape.rank() &&
                with_channels(in[i].shape, 1) == with_channels(in[0].shape, 1),
            "expected inputs that differ only in channels, got ", in[0].shape, " and ", in[i].shape);
      channels += in[i].shape[1];
    }
    return {batched_desc(with_channels(in[0].shape, channels))};
  }
  bool batched_input(int) const override { return true; }
  const std::vector<Impl>& implementations() const override {
    static const std::vector<Impl> list = {{"copy", unless_alike, [](const Problem& p) {
                                              std::vector<Piece> pieces;
                                              std::int64_t to = 0;
                                              for (std::size_t i = 0; i < p.inputs.size(); ++i) {
                                                const std::int64_t c = p.inputs[i].shape[1];
                                                pieces.push_back({static_cast<int>(i), 0, to, c});
                                                to += c;
                                              }
                                              return prepare_copy(p, pieces);
                                            }}};
    return list;
  }
  std::vector<ValueId> backward(GradBuilder& g, const Call& call,
                                const std::vector<ValueId>& dy) const override {
    std::vector<ValueId> grads(call.inputs.size(), kNoValue);
    std::int64_t begin = 0;
    for (std::size_t i = 0; i < grads.size(); ++i) {
      const std::int64_t end = begin + g.desc(call.inputs[i]).shape[1];
      if (dy[0] != kNoValue && call.needs[i])
        grads[i] = g.add("slice_channels", {dy[0]}, {{"begin", begin}, {"end", end}})[0];
      begin = end;
    }
    return grads;
  }
  Cost cost(const Problem&) const override { return {0}; }
};

struct Range {
  std::int64_t begin, end;
};
Range range_of(const Attrs& attrs, const Shape& x) {
  return {attrs.integer("begin", 0), attrs.integer("end", x[1])};
}

class SliceChannels : public OpDef {
 public:
  const char* name() const override { return "slice_channels"; }
  std::vector<TensorDesc> infer(const Attrs& attrs, const std::vector<TensorDesc>& in) const override {
    expect_inputs(in, 1, 1, "one input");
    expect_batch(in[0], "input");
    const Range r = range_of(attrs, in[0].shape);
    check(0 <= r.begin && r.begin < r.end && r.end <= in[0].shape[1],
          "expected 0 <= begin < end <= ", in[0].shape[1], " channels, got begin ", r.begin, " and end ",
          r.end, " (input ", in[0].shape, ")");
    return {batched_desc(with_channels(in[0].shape, r.end - r.begin))};
  }
  bool batched_input(int) const override { return true; }
  const std::vector<Impl>& implementations() const override {
    static const std::vector<Impl> list = {{"copy", unless_alike, [](const Problem& p) {
                                              const Range r = range_of(p.attrs, p.inputs[0].shape);
                                              return prepare_copy(p, {{0, r.begin, 0, r.end - r.begin}});
                                            }}};
    return list;
  }
  std::vector<ValueId> backward(GradBuilder& g, const Call& call,
                                const std::vector<ValueId>& dy) const override {
    if (dy[0] == kNoValue || !call.needs[0]) return {kNoValue};
    const Shape& x = g.desc(call.inputs[0]).shape;
    const Range r = range_of(call.attrs, x);
    return {g.add("pad_channels", {dy[0]}, {{"before", r.begin}, {"after", x[1] - r.end}})[0]};
  }
  Cost cost(const Problem&) const override { return {0}; }
};

class PadChannels : public OpDef {
 public:
  const char* name() const override { return "pad_channels"; }
  std::vector<TensorDesc> infer(const Attrs& attrs, const std::vector<TensorDesc>& in) const override {
    expect_inputs(in, 1, 1, "one input");
    expect_batch(in[0], "input");
    const std::int64_t before = attrs.integer("before", 0), after = attrs.integer("after", 0);
    constexpr std::int64_t kMost = std::int64_t{1} << 40;
    check(before >= 0 && after >= 0 && before < kMost && after < kMost,
          "expected channels before and after of at least 0, got ", before, " and ", after);
    return {batched_desc(with_channels(in[0].shape, before + in[0].shape[1] + after))};
  }
  bool batched_input(int) const override { return true; }
  const std::vector<Impl>& implementations() const override {
    static const std::vector<Impl> list = {
        {"copy", unless_alike, [](const Problem& p) {
           const std::int64_t before = p.attrs.integer("before", 0);
           const std::int64_t after = p.attrs.integer("after", 0);
           const std::int64_t c = p.inputs[0].shape[1];
           return prepare_copy(p, {{-1, 0, 0, before}, {0, 0, before, c}, {-1, 0, before + c, after}});
         }}};
    return list;
  }
  std::vector<ValueId> backward(GradBuilder& g, const Call& call,
                                const std::vector<ValueId>& dy) const override {
    if (dy[0] == kNoValue || !call.needs[0]) return {kNoValue};
    const std::int64_t before = call.attrs.integer("before", 0);
    const std::int64_t end = before + g.desc(call.inputs[0]).shape[1];
    return {g.add("slice_channels", {dy[0]}, {{"begin", before}, {"end", end}})[0]};
  }
  Cost cost(const Problem&) const override { return {0}; }
};

// --- subsample ------------------------------------------------------------------------------------------

struct Grid {  // every sh-th row and sw-th pixel; c: elements of a pixel
  std::int64_t n, c, ih, iw, oh, ow, sh, sw;

  Grid(const Attrs& attrs, const Shape& x, std::int64_t pixel) : n(x[0]), c(pixel), ih(x[2]), iw(x[3]) {
    const auto stride = attrs.ints("stride", 2, 1);
    for (const std::int64_t s : stride)
      check(s >= 1 && s < std::int64_t{1} << 31, "expected stride of at least 1, got ", stride[0], "x",
            stride[1]);
    sh = stride[0], sw = stride[1];
    oh = (ih - 1) / sh + 1, ow = (iw - 1) / sw + 1;
  }
  void pick(const float* x, float* y, std::int64_t r) const {  // output row r
    kernels().layout->copy_rows(x + r * sh * iw * c, sw * c, y + r * ow * c, c, ow, c);
  }
  void spread(const float* dy, float* dx, std::int64_t r) const {  // input row r
    float* const to = dx + r * iw * c;
    if (r % sh != 0) return kernels().layout->zero_rows(to, 0, 1, iw * c);
    if (sw > 1) kernels().layout->zero_rows(to, 0, 1, iw * c);
    kernels().layout->copy_rows(dy + r / sh * ow * c, c, to, sw * c, ow, c);
  }
};

template <bool kBackward>
Shape subsampled_input(const Problem& p) {
  return kBackward ? p.outputs[0].shape : p.inputs[0].shape;
}

template <bool kBackward>
void subsample_row(const Grid& g, const void* in, void* out, std::int64_t image, std::int64_t row) {
  const std::int64_t x = image * g.ih * g.iw * g.c, y = image * g.oh * g.ow * g.c;
  if (kBackward)
    g.spread(floats(in) + y, floats(out) + x, row);
  else
    g.pick(floats(in) + x, floats(out) + y, row);
}

template <bool kBackward>
class SubsampleChannelsLast : public Prepared {
 public:
  explicit SubsampleChannelsLast(const Problem& p)
      : g_(p.attrs, subsampled_input<kBackward>(p), p.inputs[0].shape[1]) {}
  void run(const RunArgs& a) const override {
    const std::int64_t rows = kBackward ? g_.ih : g_.oh;
    parallel_for(g_.n * rows, [&](std::int64_t item, int) {
      subsample_row<kBackward>(g_, a.in[0], a.out[0], item / rows, item % rows);
    });
  }

 private:
  Grid g_;
};

template <bool kBackward>
class SubsampleInterleaved : public BlockOp {
 public:
  explicit SubsampleInterleaved(const Problem& p)
      : BlockOp(p),
        g_(p.attrs, subsampled_input<kBackward>(p), kernels().width),
        channels_(p.inputs[0].shape[1]) {}
  void block(const BlockArgs& a) const override {
    const std::int64_t rows = kBackward ? g_.ih : g_.oh;
    for (std::int64_t c = 0; c < channels_; ++c)
      for (std::int64_t r = 0; r < rows; ++r) subsample_row<kBackward>(g_, a.in[0], a.out[0], c, r);
  }

 private:
  Grid g_;
  std::int64_t channels_;
};

template <bool kBackward>
std::vector<Impl> subsample_list() {
  return {{"interleaved", [](const Problem& p) { return unless_in(p, Layout::kInterleaved); },
           prepare<SubsampleInterleaved<kBackward>>},
          {"channels_last", [](const Problem& p) { return unless_in(p, Layout::kNHWC); },
           prepare<SubsampleChannelsLast<kBackward>>}};
}

class Subsample : public OpDef {
 public:
  const char* name() const override { return "subsample"; }
  std::vector<TensorDesc> infer(const Attrs& attrs, const std::vector<TensorDesc>& in) const override {
    expect_inputs(in, 1, 1, "one input");
    expect_map(in[0], "input");
    const Grid g(attrs, in[0].shape, 1);
    return {batched_desc({g.n, in[0].shape[1], g.oh, g.ow})};
  }
  bool batched_input(int) const override { return true; }
  const std::vector<Impl>& implementations() const override {
    static const std::vector<Impl> list = subsample_list<false>();
    return list;
  }
  std::vector<ValueId> backward(GradBuilder& g, const Call& call,
                                const std::vector<ValueId>& dy) const override {
    if (dy[0] == kNoValue || !call.needs[0]) return {kNoValue};
    const Shape& x = g.desc(call.inputs[0]).shape;
    Attrs attrs = call.attrs;
    attrs.set("input_size", std::vector<std::int64_t>{x[2], x[3]});
    return {g.add("subsample_backward", {dy[0]}, attrs)[0]};
  }
  Cost cost(const Problem&) const override { return {0}; }
};

class SubsampleBackward : public OpDef {
 public:
  const char* name() const override { return "subsample_backward"; }
  std::vector<TensorDesc> infer(const Attrs& attrs, const std::vector<TensorDesc>& in) const override {
    expect_inputs(in, 1, 1, "the output's gradient");
    expect_map(in[0], "output gradient");
    check(attrs.has("input_size"), "expected the attribute input_size");
    const auto size = attrs.ints("input_size", 2, 1);
    const Shape& dy = in[0].shape;
    const Shape x = {dy[0], dy[1], size[0], size[1]};
    expect_map(batched_desc(x), "input");
    const Grid g(attrs, x, 1);
    const Shape y = {dy[0], dy[1], g.oh, g.ow};
    check(dy == y, "expected an output gradient of ", y, ", got ", dy, " (input ", x, ")");
    return {batched_desc(x)};
  }
  bool batched_input(int) const override { return true; }
  const std::vector<Impl>& implementations() const override {
    static const std::vector<Impl> list = subsample_list<true>();
    return list;
  }
  Cost cost(const Problem&) const override { return {0}; }
};

}  // namespace

void register_shape_ops(Registry& r) {
  static const Flatten flatten;
  static const Unflatten unflatten;
  static const Concat concat;
  static const SliceChannels slice;
  static const PadChannels pad;
  static const Subsample subsample;
  static const SubsampleBackward subsample_backward;
  for (const OpDef* op : std::initializer_list<const OpDef*>{&flatten, &unflatten, &concat, &slice, &pad,
                                                             &subsample, &subsample_backward})
    r.add(*op);
}

}  // namespace fastcnn::ops

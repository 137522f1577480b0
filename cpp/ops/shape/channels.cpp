// concat, slice_channels, pad_channels: copies of channels where they cannot be slices of one memory.
#include "ops/shape/shape.h"

namespace fastcnn::ops {
namespace {

using Pieces = std::vector<Piece>;

Shape with_channels(const Shape& s, std::int64_t c) {
  std::vector<std::int64_t> dims = s.vec();
  dims[1] = c;
  return Shape(dims);
}

class ChannelOp : public MovingOp {
 public:
  ChannelOp(const char* name, std::vector<AttrSpec> attributes)
      : MovingOp(
            name, std::move(attributes),
            {{"copy", [](const Problem& p) { return first_of(unless_no_posts(p), unless_alike(p)); },
              [](const Problem& p) { return copy_channels(p, value_of<Pieces>(p.facts.get())); }, true}}) {}

 protected:
  static Inferred result(const Shape& like, Pieces pieces) {
    std::int64_t channels = 0;
    for (const Piece& piece : pieces) channels += piece.n;
    return {{batched_desc(with_channels(like, channels))}, fact(std::move(pieces))};
  }
};

class Concat : public ChannelOp {
 public:
  Concat() : ChannelOp("concat", {{"axis", AttrKind::kInteger, std::int64_t{1}}}) {}
  Inferred infer(const Attrs& attrs, const std::vector<TensorDesc>& in) const override {
    check(attrs.integer("axis") == 1, "axis: expected 1 (channels), got ", attrs.integer("axis"));
    check(!in.empty(), "expected at least one input, got none");
    Pieces pieces;
    std::int64_t to = 0;
    for (std::size_t i = 0; i < in.size(); ++i) {
      check(!in[i].absent, "expected input ", i, ", got none");
      expect_batch(in[i], "input");
      check(in[i].shape.rank() == in[0].shape.rank() &&
                with_channels(in[i].shape, 1) == with_channels(in[0].shape, 1),
            "expected inputs that differ only in channels, got ", in[0].shape, " and ", in[i].shape);
      pieces.push_back({static_cast<int>(i), 0, to, in[i].shape[1]});
      to += in[i].shape[1];
    }
    return result(in[0].shape, std::move(pieces));
  }
  bool joins_channels() const override { return true; }
  ValueIds backward(GradBuilder& g, const Call& call, const ValueIds& dy) const override {
    ValueIds grads(call.inputs.size(), kNoValue);
    for (const Piece& piece : value_of<Pieces>(call.facts.get())) {
      const auto i = static_cast<std::size_t>(piece.input);
      if (dy[0] != kNoValue && call.needs[i])
        grads[i] = g.add("slice_channels", {dy[0]}, {{"begin", piece.to}, {"end", piece.to + piece.n}})[0];
    }
    return grads;
  }
};

class SliceChannels : public ChannelOp {
 public:
  SliceChannels()
      : ChannelOp("slice_channels",
                  {{"begin", AttrKind::kInteger, std::int64_t{0}}, {"end", AttrKind::kInteger}}) {
  }  // default: all channels
  Inferred infer(const Attrs& attrs, const std::vector<TensorDesc>& in) const override {
    expect_inputs(in, 1, 1, "one input");
    expect_batch(in[0], "input");
    const std::int64_t c = in[0].shape[1], begin = attrs.integer("begin");
    const std::int64_t end = attrs.has("end") ? attrs.integer("end") : c;
    check(0 <= begin && begin < end && end <= c, "expected 0 <= begin < end <= ", c, " channels, got begin ",
          begin, " and end ", end, " (input ", in[0].shape, ")");
    return result(in[0].shape, {{0, begin, 0, end - begin}});
  }
  std::int64_t first_channel(const Facts* facts) const override { return value_of<Pieces>(facts)[0].from; }
  ValueIds backward(GradBuilder& g, const Call& call, const ValueIds& dy) const override {
    const Piece piece = value_of<Pieces>(call.facts.get())[0];
    const std::int64_t after = g.desc(call.inputs[0]).shape[1] - piece.from - piece.n;
    return {g.add("pad_channels", {dy[0]}, {{"before", piece.from}, {"after", after}})[0]};
  }
};

class PadChannels : public ChannelOp {
 public:
  PadChannels()
      : ChannelOp("pad_channels", {{"before", AttrKind::kInteger, std::int64_t{0}},
                                   {"after", AttrKind::kInteger, std::int64_t{0}}}) {}
  Inferred infer(const Attrs& attrs, const std::vector<TensorDesc>& in) const override {
    expect_inputs(in, 1, 1, "one input");
    expect_batch(in[0], "input");
    const std::int64_t before = attrs.integer("before"), after = attrs.integer("after");
    constexpr std::int64_t kMost = std::int64_t{1} << 40;
    check(before >= 0 && after >= 0, "expected channels before and after of at least 0, got ", before,
          " and ", after);
    check(before < kMost && after < kMost, "expected channels before and after below ", kMost, ", got ",
          before, " and ", after);
    const std::int64_t c = in[0].shape[1];
    return result(in[0].shape, {{-1, 0, 0, before}, {0, 0, before, c}, {-1, 0, before + c, after}});
  }
  ValueIds backward(GradBuilder& g, const Call& call, const ValueIds& dy) const override {
    const Piece x = value_of<Pieces>(call.facts.get())[1];
    return {g.add("slice_channels", {dy[0]}, {{"begin", x.to}, {"end", x.to + x.n}})[0]};
  }
};

}  // namespace

void register_channels(Registry& r) {
  r.add<Concat>();
  r.add<SliceChannels>();
  r.add<PadChannels>();
}

}  // namespace fastcnn::ops

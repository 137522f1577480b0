// Ops from maps of one size to maps of another, and steps that go through maps row by row, whatever the
// layout: a channels-last image is one map, whose pixels are its channels; an interleaved block is C maps,
// whose pixels are its images.
#pragma once

#include <algorithm>
#include <string>

#include "ops/checks.h"
#include "ops/sliced.h"

namespace fastcnn::ops {

// Facts of an op that takes maps of one size to another, and of its backward op: by the forward names,
// whichever direction is computed.
struct MapFacts : Facts {
  bool backward = false;
};
// Input and output by their forward names, or their gradients.
inline const TensorDesc& x_of(const Problem& p) {
  return facts_of<MapFacts>(p).backward ? p.outputs[0] : p.inputs[0];
}
inline const TensorDesc& y_of(const Problem& p) {
  return facts_of<MapFacts>(p).backward ? p.inputs[0] : p.outputs[0];
}

// The op, or its backward op, which is told x's size.
class MapOp : public OpDef {
 public:
  ValueIds backward(GradBuilder& g, const Call& call, const ValueIds& dy) const override {
    if (backward_) return OpDef::backward(g, call, dy);
    const Shape& x = g.desc(call.inputs[0]).shape;
    Attrs attrs = call.attrs;
    attrs.set("input_size", std::vector<std::int64_t>(x.begin() + 2, x.end()));
    ValueIds inputs = {dy[0]};
    inputs.insert(inputs.end(), call.outputs.begin() + 1, call.outputs.end());
    return {g.add(std::string(name()) + "_backward", inputs, attrs)[0]};
  }

 protected:
  MapOp(const std::string& name, std::vector<AttrSpec> attributes, std::vector<Impl> cpu, bool backward,
        double flops = 1)
      : OpDef(name + (backward ? "_backward" : ""), with_size(std::move(attributes), backward),
              std::move(cpu), flops),
        backward_(backward) {}
  const char* operand() const { return backward_ ? "output gradient" : "input"; }
  // What infer() gives for `given`, an x or a dy.
  Inferred inferred(const Shape& given, const Shape& x, const Shape& y,
                    std::shared_ptr<const Facts> facts) const {
    if (!backward_) return {{batched_desc(y)}, std::move(facts)};
    check(given == y, "expected an output gradient of ", y, ", got ", given, " (input ", x, ")");
    return {{batched_desc(x)}, std::move(facts)};
  }

  const bool backward_;

 private:
  static std::vector<AttrSpec> with_size(std::vector<AttrSpec> specs, bool backward) {
    if (backward) specs.push_back({"input_size", AttrKind::kIntegers, {}, true});
    return specs;
  }
};

struct Map {
  std::int64_t c;                        // elements of a pixel
  std::int64_t step, plane, row, pixel;  // elements from one to the next; step: to the next map
};
inline Map map_of(const TensorDesc& d) {
  const Geometry g = geometry_of(d);
  const bool block = d.layout == Layout::kInterleaved;
  return {block ? d.block : g.c, block ? g.channel : g.image, g.plane, g.row, g.pixel};
}

constexpr std::int64_t kStripElements = 32768;  // enough work for one item, small against L2

// Step(p) has run(in, out, map, r0, r1): rows [r0, r1) of output 0, counted through the planes.
template <class Step>
class ByRows : public Prepared {
 public:
  explicit ByRows(const Problem& p) : step_(p) {
    const Geometry x = geometry_of(p.inputs[0]), y = geometry_of(p.outputs[0]);
    rows_ = y.spatial[0] * y.spatial[1];
    strip_ = std::clamp<std::int64_t>(kStripElements * rows_ / std::max(x.values(), y.values()), 1, rows_);
    strips_ = ceil_div(rows_, strip_);
    stages_ = {y.n * strips_};
  }
  void item(const RunArgs& a, int, std::int64_t i, const Worker&) const override {
    const std::int64_t r0 = i % strips_ * strip_;
    step_.run(a.in, a.out, i / strips_, r0, std::min(rows_, r0 + strip_));
  }
  std::string detail() const override { return str("strips of ", strip_, " rows"); }

 private:
  Step step_;
  std::int64_t rows_, strip_, strips_;
};

template <class Step>
class ByBlocks : public Sliced {
 public:
  explicit ByBlocks(const Problem& p) : Sliced(p), step_(p) {
    const Geometry y = geometry_of(p.outputs[0]);
    channels_ = y.c, rows_ = y.spatial[0] * y.spatial[1];
  }
  void slice(const SliceArgs& a) const override {
    for (std::int64_t c = 0; c < channels_; ++c) step_.run(a.in, a.out, c, 0, rows_);
  }

 private:
  Step step_;
  std::int64_t channels_, rows_;
};

}  // namespace fastcnn::ops

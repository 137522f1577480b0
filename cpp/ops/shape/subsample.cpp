// subsample: every stride-th pixel along each spatial dimension; its gradient puts them back among zeros.
#include "kernels/layout.h"
#include "kernels/table.h"
#include "ops/maps.h"
#include "ops/shape/shape.h"

namespace fastcnn::ops {
namespace {

struct Grid : Facts {
  bool backward = false;
  std::int64_t stride[3] = {1, 1, 1};
};

class SubsampleStep {
 public:
  explicit SubsampleStep(const Problem& p) : k_(*p.kernels().layout), grid_(facts_of<Grid>(p)) {
    const TensorDesc &x = grid_.backward ? p.outputs[0] : p.inputs[0],
                     &y = grid_.backward ? p.inputs[0] : p.outputs[0];
    x_ = map_of(x), y_ = map_of(y);
    height_ = geometry_of(p.outputs[0]).spatial[1];
    in_width_ = geometry_of(x).spatial[2], out_width_ = geometry_of(y).spatial[2];
  }
  void run(const void* const* in, void* const* out, std::int64_t map, std::int64_t r0,
           std::int64_t r1) const {
    for (std::int64_t r = r0; r < r1; ++r) {
      const std::int64_t d = r / height_, h = r % height_;
      if (grid_.backward)
        spread(floats(in[0]) + map * y_.step, floats(out[0]) + map * x_.step + d * x_.plane + h * x_.row, d,
               h);
      else
        pick(floats(in[0]) + map * x_.step, floats(out[0]) + map * y_.step + d * y_.plane + h * y_.row, d, h);
    }
  }

 private:
  void pick(const float* x, float* y, std::int64_t d, std::int64_t h) const {
    x += d * grid_.stride[0] * x_.plane + h * grid_.stride[1] * x_.row;
    k_.copy_rows(x, grid_.stride[2] * x_.pixel, y, y_.pixel, out_width_, x_.c);
  }
  void spread(const float* dy, float* dx, std::int64_t d, std::int64_t h) const {
    const bool picked = d % grid_.stride[0] == 0 && h % grid_.stride[1] == 0;
    if (!picked || grid_.stride[2] > 1) k_.zero_rows(dx, x_.pixel, in_width_, x_.c);
    if (!picked) return;
    dy += d / grid_.stride[0] * y_.plane + h / grid_.stride[1] * y_.row;
    k_.copy_rows(dy, y_.pixel, dx, grid_.stride[2] * x_.pixel, out_width_, x_.c);
  }

  const LayoutKernels& k_;
  Grid grid_;
  Map x_, y_;
  std::int64_t height_, in_width_, out_width_;  // height: of the output
};

class Subsample : public MovingOp {
 public:
  Subsample(const char* name, bool backward)
      : MovingOp(
            name, attributes_of(backward),
            {{"interleaved", unless_plain_in<Layout::kInterleaved>, prepare<ByBlocks<SubsampleStep>>, true},
             {"channels_last", unless_plain_in<Layout::kNHWC>, prepare<ByRows<SubsampleStep>>}}),
        backward_(backward) {}
  Inferred infer(const Attrs& attrs, const std::vector<TensorDesc>& in) const override {
    expect_inputs(in, 1, 1, backward_ ? "the output's gradient" : "one input");
    const char* const what = backward_ ? "output gradient" : "input";
    const Shape& given = in[0].shape;
    const int rank = given.rank() >= 3 && given.rank() <= 5 ? given.rank() - 2 : 2;
    expect_map(in[0], what, rank);
    std::vector<std::int64_t> x = given.vec();
    if (backward_) {
      const auto size = attrs.ints("input_size", rank);
      std::copy(size.begin(), size.end(), x.begin() + 2);
      expect_map(batched_desc(Shape(x)), "input", rank);
    }
    auto grid = std::make_shared<Grid>();
    grid->backward = backward_;
    std::vector<std::int64_t> y = x;
    const auto strides = attrs.ints("stride", rank);
    for (int i = 0; i < rank; ++i) {
      const std::int64_t s = strides[static_cast<std::size_t>(i)];
      check(s >= 1, "expected stride of at least 1, got ", s);
      check(s < std::int64_t{1} << 31, "expected stride below 2^31, got ", s);
      grid->stride[3 - rank + i] = s;
      std::int64_t& size = y[static_cast<std::size_t>(2 + i)];
      size = (size - 1) / s + 1;
    }
    if (!backward_) return {{batched_desc(Shape(y))}, grid};
    check(given == Shape(y), "expected an output gradient of ", Shape(y), ", got ", given, " (input ",
          Shape(x), ")");
    return {{batched_desc(Shape(x))}, grid};
  }
  std::vector<ValueId> backward(GradBuilder& g, const Call& call,
                                const std::vector<ValueId>& dy) const override {
    if (backward_) return OpDef::backward(g, call, dy);
    const Shape& x = g.desc(call.inputs[0]).shape;
    Attrs attrs = call.attrs;
    attrs.set("input_size", std::vector<std::int64_t>(x.begin() + 2, x.end()));
    return {g.add("subsample_backward", {dy[0]}, attrs)[0]};
  }

 private:
  static std::vector<AttrSpec> attributes_of(bool backward) {
    std::vector<AttrSpec> specs = {{"stride", AttrKind::kIntegers, std::int64_t{1}}};
    if (backward) specs.push_back({"input_size", AttrKind::kIntegers, {}, true});
    return specs;
  }
  bool backward_;
};

}  // namespace

void register_subsample(Registry& r) {
  r.add<Subsample>("subsample", false);
  r.add<Subsample>("subsample_backward", true);
}

}  // namespace fastcnn::ops

// subsample: every stride-th pixel along each spatial dimension; its gradient puts them back among zeros.
#include "kernels/layout.h"
#include "kernels/table.h"
#include "ops/maps.h"
#include "ops/shape/shape.h"

namespace fastcnn::ops {
namespace {

struct Grid : MapFacts {
  std::int64_t stride[3] = {1, 1, 1};
};

class SubsampleStep {
 public:
  explicit SubsampleStep(const Problem& p) : k_(*p.kernels().layout), grid_(facts_of<Grid>(p)) {
    x_ = map_of(x_of(p)), y_ = map_of(y_of(p));
    height_ = geometry_of(p.outputs[0]).spatial[1];
    in_width_ = geometry_of(x_of(p)).spatial[2], out_width_ = geometry_of(y_of(p)).spatial[2];
  }
  void run(const void* const* in, void* const* out, std::int64_t map, std::int64_t r0,
           std::int64_t r1) const {
    for (std::int64_t r = r0; r < r1; ++r) {
      const std::int64_t d = r / height_, h = r % height_;
      const Map &from = grid_.backward ? y_ : x_, &to = grid_.backward ? x_ : y_;
      const float* const src = floats(in[0]) + map * from.step;
      float* const dst = floats(out[0]) + map * to.step + d * to.plane + h * to.row;
      grid_.backward ? spread(src, dst, d, h) : pick(src, dst, d, h);
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

class Subsample : public MapOp {
 public:
  explicit Subsample(bool backward)
      : MapOp("subsample", {{"stride", AttrKind::kIntegers, std::int64_t{1}}},
              {{"interleaved", unless_plain_in<Layout::kInterleaved>, prepare<ByBlocks<SubsampleStep>>, true},
               {"channels_last", unless_plain_in<Layout::kNHWC>, prepare<ByRows<SubsampleStep>>}},
              backward, 0) {}
  Inferred infer(const Attrs& attrs, const std::vector<TensorDesc>& in) const override {
    expect_inputs(in, 1, 1, backward_ ? "the output's gradient" : "one input");
    const Shape& given = in[0].shape;
    const int rank = given.rank() >= 3 && given.rank() <= 5 ? given.rank() - 2 : 2;
    expect_map(in[0], operand(), rank);
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
    return inferred(given, Shape(x), Shape(y), grid);
  }
};

}  // namespace

void register_subsample(Registry& r) {
  r.add<Subsample>(false);
  r.add<Subsample>(true);
}

}  // namespace fastcnn::ops

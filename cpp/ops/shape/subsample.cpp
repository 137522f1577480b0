// subsample: every stride-th pixel from begin to before end along each spatial dimension; its gradient puts
// them back among zeros.
#include <algorithm>
#include <limits>

#include "kernels/layout.h"
#include "kernels/table.h"
#include "ops/maps.h"
#include "ops/shape/shape.h"

namespace fastcnn::ops {
namespace {

struct Grid : MapFacts {
  std::int64_t stride[3] = {1, 1, 1}, begin[3] = {0, 0, 0};
};

class SubsampleStep {
 public:
  explicit SubsampleStep(const Problem& p) : k_(*p.kernels().layout), grid_(facts_of<Grid>(p)) {
    x_ = map_of(x_of(p)), y_ = map_of(y_of(p));
    height_ = geometry_of(p.outputs[0]).spatial[1];
    in_width_ = geometry_of(x_of(p)).spatial[2];
    const Geometry y = geometry_of(y_of(p));
    std::copy(y.spatial, y.spatial + 3, size_);
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
    x += at(0, d) * x_.plane + at(1, h) * x_.row + at(2, 0) * x_.pixel;
    k_.copy_rows(x, grid_.stride[2] * x_.pixel, y, y_.pixel, size_[2], x_.c);
  }
  void spread(const float* dy, float* dx, std::int64_t d, std::int64_t h) const {
    const std::int64_t plane = taken(0, d), row = taken(1, h);
    const bool picked = plane >= 0 && row >= 0;
    if (!picked || size_[2] != in_width_) k_.zero_rows(dx, x_.pixel, in_width_, x_.c);
    if (!picked) return;
    dy += plane * y_.plane + row * y_.row;
    k_.copy_rows(dy, y_.pixel, dx + at(2, 0) * x_.pixel, grid_.stride[2] * x_.pixel, size_[2], x_.c);
  }
  // Where output position o of a dimension lies in the input, and the reverse: -1 where it is left out.
  std::int64_t at(int dimension, std::int64_t o) const {
    return grid_.begin[dimension] + o * grid_.stride[dimension];
  }
  std::int64_t taken(int dimension, std::int64_t i) const {
    const std::int64_t from = i - grid_.begin[dimension], o = from / grid_.stride[dimension];
    return from >= 0 && from % grid_.stride[dimension] == 0 && o < size_[dimension] ? o : -1;
  }

  const LayoutKernels& k_;
  Grid grid_;
  Map x_, y_;
  std::int64_t height_, in_width_, size_[3];  // height: of output 0; size: of y
};

constexpr std::int64_t kWhole = std::numeric_limits<std::int64_t>::max();  // end: that of the input

class Subsample : public MapOp {
 public:
  explicit Subsample(bool backward)
      : MapOp("subsample",
              {{"stride", AttrKind::kIntegers, std::int64_t{1}},
               {"begin", AttrKind::kIntegers, std::int64_t{0}},
               {"end", AttrKind::kIntegers, kWhole}},
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
    const auto strides = attrs.ints("stride", rank), begins = attrs.ints("begin", rank);
    const auto ends = attrs.ints("end", rank);
    for (int i = 0; i < rank; ++i) {
      const std::int64_t s = strides[static_cast<std::size_t>(i)];
      check(s >= 1, "expected stride of at least 1, got ", s);
      check(s < std::int64_t{1} << 31, "expected stride below 2^31, got ", s);
      std::int64_t& size = y[static_cast<std::size_t>(2 + i)];
      const std::int64_t begin = begins[static_cast<std::size_t>(i)];
      const std::int64_t end = std::min(ends[static_cast<std::size_t>(i)], size);
      check(0 <= begin && begin < end, "expected 0 <= begin < end <= ", size, ", got begin ", begin,
            " and end ", end);
      grid->stride[3 - rank + i] = s, grid->begin[3 - rank + i] = begin;
      size = (end - begin - 1) / s + 1;
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

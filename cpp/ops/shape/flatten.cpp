// flatten: a value's rows in (C, spatial) order; unflatten: the reverse.
#include <numeric>

#include "ops/shape/shape.h"

namespace fastcnn::ops {
namespace {

using Ints = std::vector<std::int64_t>;

bool flattens(const Problem& p) { return p.inputs[0].shape.rank() > p.outputs[0].shape.rank(); }
// The value of more dimensions decides: rows have no order of their own.
const TensorDesc& map_of(const Problem& p) { return flattens(p) ? p.inputs[0] : p.outputs[0]; }
const TensorDesc& rows_of(const Problem& p) { return flattens(p) ? p.outputs[0] : p.inputs[0]; }

// The rows as plain images.
Geometry images_of(const Problem& p) {
  Geometry g = geometry_of({map_of(p).shape});
  g.image = geometry_of(rows_of(p)).image;
  return g;
}

std::string unless_view(const Problem& p) {
  const std::string why = first_of(unless_no_posts(p), unless_dense(p));
  if (!why.empty()) return why;
  const bool interleaved = p.inputs[0].layout == Layout::kInterleaved;
  if (interleaved != (p.outputs[0].layout == Layout::kInterleaved)) return "takes values that lie alike";
  if (interleaved || same_memory(map_of(p), map_of(p).layout, Layout::kPlain)) return "";
  return "the channels have to move";
}
std::string unless_transpose(const Problem& p) {
  const bool interleaved =
      map_of(p).layout == Layout::kInterleaved || rows_of(p).layout == Layout::kInterleaved;
  if (interleaved || !transposes(geometry_of(map_of(p)), images_of(p)))
    return "takes nhwc values to rows and back";
  return unless_no_posts(p);
}
std::unique_ptr<Prepared> prepare_transpose(const Problem& p) {
  const Geometry map = geometry_of(map_of(p)), rows = images_of(p);
  return flattens(p) ? transpose_images(p, map, rows) : transpose_images(p, rows, map);
}

const std::vector<Impl> kImpls = {{"view", unless_view, prepare<SameBytes>},
                                  {"transpose", unless_transpose, prepare_transpose}};

class Flatten : public MovingOp {
 public:
  Flatten() : MovingOp("flatten", {}, kImpls) {}
  Inferred infer(const Attrs&, const std::vector<TensorDesc>& in) const override {
    expect_inputs(in, 1, 1, "one input");
    expect_batch(in[0], "input");
    const Shape& s = in[0].shape;
    const auto features = std::accumulate(s.begin() + 1, s.end(), std::int64_t{1}, checked_product);
    return {{batched_desc({s[0], features})}};
  }
  ValueIds backward(GradBuilder& g, const Call& call, const ValueIds& dy) const override {
    const Shape& x = g.desc(call.inputs[0]).shape;
    if (x.rank() == 2) return {dy[0]};
    return {g.add("unflatten", {dy[0]}, {{"shape", Ints(x.begin() + 1, x.end())}})[0]};
  }
};

class Unflatten : public MovingOp {
 public:
  Unflatten() : MovingOp("unflatten", {{"shape", AttrKind::kIntegers, {}, true}}, kImpls) {}
  Inferred infer(const Attrs& attrs, const std::vector<TensorDesc>& in) const override {
    expect_inputs(in, 1, 1, "one input");
    expect_batch(in[0], "input");
    check(in[0].shape.rank() == 2, "expected input (N, features), got ", in[0].shape);
    Ints dims = std::get<Ints>(attrs.items().at("shape"));
    const Shape image(dims);
    check(dims.size() >= 1 && dims.size() <= 4 && image.numel() >= 1,
          "expected shape (C, spatial ...) of 1 to 4 sizes of at least 1, got ", image);
    check(image.numel() == in[0].shape[1], "expected ", image.numel(), " features for ", image, ", got ",
          in[0].shape);
    dims.insert(dims.begin(), in[0].shape[0]);
    return {{batched_desc(Shape(dims))}};
  }
  ValueIds backward(GradBuilder& g, const Call& call, const ValueIds& dy) const override {
    return {g.add("flatten", {dy[0]}, {})[0]};
  }
};

}  // namespace

void register_flatten(Registry& r) {
  r.add<Flatten>();
  r.add<Unflatten>();
}

}  // namespace fastcnn::ops

// convert: the same value in another layout or in memory of its own. uint8 images become float32 on the way.
#include <algorithm>
#include <cstring>

#include "kernels/layout.h"
#include "kernels/table.h"
#include "ops/shape/shape.h"
#include "ops/sliced.h"

namespace fastcnn::ops {
namespace {

BlockImages images_of(const TensorDesc& d) {
  const Geometry g = geometry_of(d);
  return {0, g.c, g.pixels(), d.layout == Layout::kNHWC, g.image, g.pixel};
}

// Into or out of blocks: in a segment, a step of the block; alone, one item per block.
template <bool kInto>
class BlockMove : public Sliced {
 public:
  explicit BlockMove(const Problem& p)
      : Sliced(p),
        k_(*p.kernels().layout),
        images_(images_of(kInto ? p.inputs[0] : p.outputs[0])),
        bytes_(p.inputs[0].dtype == DType::kUInt8) {
    kInto ? cut_in(p, 0) : cut_out(p, 0);
  }
  void slice(const SliceArgs& a) const override {
    BlockImages images = images_;
    images.images = a.images;
    if (!kInto)
      k_.deinterleave(images, floats(a.in[0]), floats(a.out[0]));
    else if (bytes_)
      k_.interleave_u8(images, static_cast<const std::uint8_t*>(a.in[0]), floats(a.out[0]));
    else
      k_.interleave(images, floats(a.in[0]), floats(a.out[0]));
  }

 private:
  const LayoutKernels& k_;
  BlockImages images_;
  bool bytes_;
};

// Every element in its place: copied, or from uint8 to float32.
class MoveInOrder : public Prepared {
 public:
  explicit MoveInOrder(const Problem& p)
      : k_(*p.kernels().layout),
        to_float_(p.inputs[0].dtype != p.outputs[0].dtype),
        n_(to_float_ ? storage_elements(p.inputs[0]) : storage_bytes(p.inputs[0])),
        item_(to_float_ ? kFlatItem : kCopiedBytes) {
    stages_ = {ceil_div(n_, item_)};
  }
  void item(const RunArgs& a, int, std::int64_t i, const Worker&) const override {
    const std::int64_t at = i * item_, n = std::min(item_, n_ - at);
    const auto* const from = static_cast<const std::uint8_t*>(a.in[0]) + at;
    if (to_float_)
      k_.to_float(from, floats(a.out[0]) + at, n);
    else
      std::memcpy(static_cast<std::uint8_t*>(a.out[0]) + at, from, static_cast<std::size_t>(n));
  }

 private:
  static constexpr std::int64_t kCopiedBytes = std::int64_t{1} << 18;
  const LayoutKernels& k_;
  bool to_float_;
  std::int64_t n_, item_;  // elements of the input, or bytes
};

// The index of max pooling has its value's layout, whatever its type: moved by plain loops, outside any hot
// path.
template <class From, class To>
class MoveElements : public Prepared {
 public:
  explicit MoveElements(const Problem& p)
      : from_(geometry_of(p.inputs[0])),
        to_(geometry_of(p.outputs[0])),
        from_block_(std::max(1, p.inputs[0].block)),
        to_block_(std::max(1, p.outputs[0].block)) {
    stages_ = {from_.n};
  }
  void item(const RunArgs& a, int, std::int64_t n, const Worker&) const override {
    const From* const src = static_cast<const From*>(a.in[0]) + image_at(from_, from_block_, n);
    To* const dst = static_cast<To*>(a.out[0]) + image_at(to_, to_block_, n);
    for (std::int64_t c = 0; c < from_.c; ++c)
      for (std::int64_t px = 0; px < from_.pixels(); ++px)
        dst[c * to_.channel + px * to_.pixel] = static_cast<To>(src[c * from_.channel + px * from_.pixel]);
  }

 private:
  static std::int64_t image_at(const Geometry& g, std::int64_t block, std::int64_t n) {
    return n / block * g.image + n % block;
  }
  Geometry from_, to_;
  std::int64_t from_block_, to_block_;
};

bool changes_type(const Problem& p) { return p.inputs[0].dtype != p.outputs[0].dtype; }
// The same bytes, but perhaps for their type.
bool same_place(const Problem& p) {
  return same_memory(p.inputs[0], p.inputs[0].layout, p.outputs[0].layout) && unless_dense(p).empty();
}
bool takes_float(const Problem& p) { return p.inputs[0].dtype == DType::kFloat32; }
bool gives_float(const Problem& p) { return p.outputs[0].dtype == DType::kFloat32; }
bool moves(const Problem& p, bool from_blocks, bool to_blocks) {
  return (p.inputs[0].layout == Layout::kInterleaved) == from_blocks &&
         (p.outputs[0].layout == Layout::kInterleaved) == to_blocks;
}

bool is_view(const Problem& p) { return same_place(p) && !changes_type(p); }
// The fact: memory of its own although the bytes are the same.
bool is_copy(const Problem& p) { return is_view(p) && value_of<bool>(p.facts.get()); }
bool is_flat(const Problem& p) { return same_place(p) && changes_type(p); }
bool is_slice(const Problem& p) {
  return takes_float(p) && p.inputs[0].layout == p.outputs[0].layout && p.inputs[0].shape.rank() >= 2;
}
bool is_interleaving(const Problem& p) { return moves(p, false, true) && gives_float(p); }
bool is_deinterleaving(const Problem& p) { return moves(p, true, false) && takes_float(p); }
bool is_transpose(const Problem& p) {
  return moves(p, false, false) && gives_float(p) &&
         transposes(geometry_of(p.inputs[0]), geometry_of(p.outputs[0]));
}
bool is_moved_by_element(const Problem& p) {
  const DType type = p.inputs[0].dtype;
  return type == DType::kUInt8 || (type == DType::kInt32 && !changes_type(p));
}
template <bool (*kTakes)(const Problem&)>
std::string unless(const Problem& p) {
  return kTakes(p) ? unless_no_posts(p) : "does another kind of move";
}

std::unique_ptr<Prepared> prepare_slice(const Problem& p) {
  return copy_channels(p, {{0, 0, 0, p.inputs[0].shape[1]}});
}
std::unique_ptr<Prepared> prepare_transpose(const Problem& p) {
  return transpose_images(p, geometry_of(p.inputs[0]), geometry_of(p.outputs[0]));
}
std::unique_ptr<Prepared> prepare_elements(const Problem& p) {
  if (changes_type(p)) return prepare<MoveElements<std::uint8_t, float>>(p);
  if (p.inputs[0].dtype == DType::kUInt8) return prepare<MoveElements<std::uint8_t, std::uint8_t>>(p);
  return prepare<MoveElements<std::int32_t, std::int32_t>>(p);
}

class Convert : public MovingOp {
 public:
  Convert()
      : MovingOp("convert", {{"copy", AttrKind::kInteger, std::int64_t{0}}},
                 {{"copy", unless<is_copy>, prepare<MoveInOrder>},
                  {"view", unless<is_view>, prepare<SameBytes>},
                  {"bytes", unless<is_flat>, prepare<MoveInOrder>},
                  {"slice", unless<is_slice>, prepare_slice, true},
                  {"interleave", unless<is_interleaving>, prepare<BlockMove<true>>, true},
                  {"deinterleave", unless<is_deinterleaving>, prepare<BlockMove<false>>, true},
                  {"transpose", unless<is_transpose>, prepare_transpose},
                  {"elements", unless<is_moved_by_element>, prepare_elements}}) {}
  Inferred infer(const Attrs& attrs, const std::vector<TensorDesc>& in) const override {
    expect_inputs(in, 1, 1, "one input");
    // int32 is the index of a pooling; any type can be copied.
    const DType type = in[0].dtype;
    if ((type == DType::kInt64 || type == DType::kFloat64) && !attrs.flag("copy"))
      throw TypeError(str("expected float32 or uint8 input, got ", name_of(type)));
    return {{batched_desc(in[0].shape, type == DType::kUInt8 ? DType::kFloat32 : type)},
            fact(attrs.flag("copy"))};
  }
  bool any_layout(int) const override { return true; }
  ValueIds backward(GradBuilder& g, const Call& call, const ValueIds& dy) const override {
    if (g.desc(call.inputs[0]).dtype != DType::kFloat32) throw ValueError("integers have no gradient");
    return {dy[0]};
  }
};

}  // namespace

void register_convert(Registry& r) { r.add<Convert>(); }

}  // namespace fastcnn::ops

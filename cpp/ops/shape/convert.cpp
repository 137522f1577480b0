// convert: the same value in another layout. uint8 images become float32 on the way.
#include <algorithm>
#include <cstring>

#include "core/parallel.h"
#include "kernels/layout.h"
#include "kernels/table.h"
#include "ops/block.h"
#include "ops/checks.h"
#include "ops/pieces.h"
#include "ops/registry.h"

namespace fastcnn::ops {
namespace {

struct Extent {  // an image: c channels of hw pixels; (N, F) is F channels of one pixel
  std::int64_t n = 1, c = 1, hw = 1;
  std::int64_t image() const { return c * hw; }
};

Extent extent_of(const Shape& s) {
  if (s.rank() == 4) return {s[0], s[1], s[2] * s[3]};
  if (s.rank() >= 1) return {s[0], s[0] == 0 ? 0 : s.numel() / s[0], 1};
  return {};
}

bool channels_last(const TensorDesc& d) { return d.layout == Layout::kNHWC && d.shape.rank() == 4; }

// Into or out of blocks: in a segment, a step of the block; alone, one item per block.
class Interleave : public BlockOp {
 public:
  explicit Interleave(const Problem& p)
      : BlockOp(p),
        e_(extent_of(p.inputs[0].shape)),
        last_(channels_last(p.inputs[0])),
        bytes_(p.inputs[0].dtype == DType::kUInt8) {
    in_access_[0] = Access::kPerBlock;
  }
  void block(const BlockArgs& a) const override {
    auto* to = static_cast<float*>(a.out[0]);
    const LayoutKernels& k = *kernels().layout;
    if (bytes_)
      k.interleave_u8(static_cast<const std::uint8_t*>(a.in[0]), a.valid, e_.c, e_.hw, last_, to);
    else
      k.interleave(static_cast<const float*>(a.in[0]), a.valid, e_.c, e_.hw, last_, to);
  }

 private:
  Extent e_;
  bool last_, bytes_;
};

class Deinterleave : public BlockOp {
 public:
  explicit Deinterleave(const Problem& p)
      : BlockOp(p), e_(extent_of(p.outputs[0].shape)), last_(channels_last(p.outputs[0])) {
    out_access_[0] = Access::kPerBlock;
  }
  void block(const BlockArgs& a) const override {
    kernels().layout->deinterleave(static_cast<const float*>(a.in[0]), a.valid, e_.c, e_.hw, last_,
                                   static_cast<float*>(a.out[0]));
  }

 private:
  Extent e_;
  bool last_;
};

// [rows][cols] <-> [cols][rows] per image; strips of pixels are the items.
class TransposeImages : public Prepared {
 public:
  explicit TransposeImages(const Problem& p)
      : e_(extent_of(p.inputs[0].shape)),
        to_last_(channels_last(p.outputs[0])),
        bytes_(p.inputs[0].dtype == DType::kUInt8) {
    strip_ = std::max<std::int64_t>(64, kFlatItem / std::max<std::int64_t>(e_.c, 1) / 64 * 64);
    strips_ = (e_.hw + strip_ - 1) / strip_;
  }
  void run(const RunArgs& a) const override {
    parallel_for(e_.n * strips_, [&](std::int64_t item, int) {
      const std::int64_t base = item / strips_ * e_.image(), px = item % strips_ * strip_;
      const std::int64_t pixels = std::min(strip_, e_.hw - px);
      auto* to = static_cast<float*>(a.out[0]) + base;
      const LayoutKernels& k = *kernels().layout;
      if (!to_last_)
        k.transpose(static_cast<const float*>(a.in[0]) + base + px * e_.c, e_.c, pixels, e_.c, to + px,
                    e_.hw);
      else if (bytes_)
        k.transpose_u8(static_cast<const std::uint8_t*>(a.in[0]) + base + px, e_.hw, e_.c, pixels,
                       to + px * e_.c, e_.c);
      else
        k.transpose(static_cast<const float*>(a.in[0]) + base + px, e_.hw, e_.c, pixels, to + px * e_.c,
                    e_.c);
    });
  }

 private:
  Extent e_;
  bool to_last_, bytes_;
  std::int64_t strip_ = 0, strips_ = 0;
};

// uint8 to float32 in place order.
class BytesToFloat : public Prepared {
 public:
  explicit BytesToFloat(const Problem& p) : n_(storage_elements(p.inputs[0])) {}
  void run(const RunArgs& a) const override {
    parallel_for((n_ + kFlatItem - 1) / kFlatItem, [&](std::int64_t item, int) {
      const std::int64_t at = item * kFlatItem;
      kernels().layout->to_float(static_cast<const std::uint8_t*>(a.in[0]) + at,
                                 static_cast<float*>(a.out[0]) + at, std::min(kFlatItem, n_ - at));
    });
  }

 private:
  std::int64_t n_;
};

// Attr "copy": memory of its own although the bytes are the same (a plan's outputs, inputs the caller may
// change).
class CopyBytes : public Prepared {
 public:
  explicit CopyBytes(const Problem& p) : bytes_(storage_bytes(p.inputs[0])) {}
  void run(const RunArgs& a) const override {
    constexpr std::int64_t kItem = std::int64_t{1} << 18;
    parallel_for((bytes_ + kItem - 1) / kItem, [&](std::int64_t item, int) {
      std::memcpy(static_cast<std::byte*>(a.out[0]) + item * kItem,
                  static_cast<const std::byte*>(a.in[0]) + item * kItem,
                  static_cast<std::size_t>(std::min(kItem, bytes_ - item * kItem)));
    });
  }

 private:
  std::int64_t bytes_;
};

// The index of max pooling has its value's layout, whatever its type: moved by plain loops, outside any hot
// path.
template <class T>
class MoveIntegers : public Prepared {
 public:
  explicit MoveIntegers(const Problem& p)
      : e_(extent_of(p.inputs[0].shape)), from_(p.inputs[0].layout), to_(p.outputs[0].layout) {}
  void run(const RunArgs& a) const override {
    const auto* src = static_cast<const T*>(a.in[0]);
    auto* dst = static_cast<T*>(a.out[0]);
    parallel_for(e_.n, [&](std::int64_t n, int) {
      for (std::int64_t c = 0; c < e_.c; ++c)
        for (std::int64_t px = 0; px < e_.hw; ++px) dst[place(to_, n, c, px)] = src[place(from_, n, c, px)];
    });
  }

 private:
  std::int64_t place(Layout layout, std::int64_t n, std::int64_t c, std::int64_t px) const {
    const std::int64_t b = kernels().width;
    switch (layout) {
      case Layout::kInterleaved:
        return ((n / b * e_.c + c) * e_.hw + px) * b + n % b;
      case Layout::kNHWC:
        return (n * e_.hw + px) * e_.c + c;
      default:
        return (n * e_.c + c) * e_.hw + px;
    }
  }
  Extent e_;
  Layout from_, to_;
};

bool changes_type(const Problem& p) { return p.inputs[0].dtype != p.outputs[0].dtype; }
bool same_place(const Problem& p) {
  return same_memory(p.inputs[0], p.inputs[0].layout, p.outputs[0].layout);
}

std::string unless_copy(const Problem& p) {
  return same_place(p) && !changes_type(p) && p.attrs.flag("copy", false) ? "" : "no copy is asked for";
}
std::string unless_view(const Problem& p) {
  return same_place(p) && !changes_type(p) ? "" : "the value has to be moved";
}
std::string unless_flat(const Problem& p) {
  return same_place(p) && changes_type(p) ? "" : "the value has to be moved";
}
std::string unless_integers(const Problem& p) {
  return p.inputs[0].dtype != DType::kFloat32 && !changes_type(p) ? "" : "takes integers that stay integers";
}
std::string unless_to_float(const Problem& p) {
  return p.outputs[0].dtype == DType::kFloat32 ? "" : "gives float32";
}
std::string unless_interleave(const Problem& p) {
  if (p.inputs[0].layout == Layout::kInterleaved || p.outputs[0].layout != Layout::kInterleaved)
    return "makes interleaved values of others";
  return unless_to_float(p);
}
std::string unless_deinterleave(const Problem& p) {
  return p.inputs[0].layout == Layout::kInterleaved && p.outputs[0].layout != Layout::kInterleaved
             ? unless_to_float(p)
             : "takes interleaved values to others";
}
std::string unless_transpose(const Problem& p) {
  if (p.inputs[0].layout == Layout::kInterleaved || p.outputs[0].layout == Layout::kInterleaved)
    return "moves between nchw and nhwc";
  if (changes_type(p) && p.inputs[0].layout != Layout::kPlain) return "takes uint8 values in nchw";
  return unless_to_float(p);
}

class Convert : public OpDef {
 public:
  const char* name() const override { return "convert"; }
  std::vector<TensorDesc> infer(const Attrs&, const std::vector<TensorDesc>& in) const override {
    expect_inputs(in, 1, 1, "one input");
    if (in[0].dtype != DType::kFloat32 && in[0].dtype != DType::kUInt8)
      throw TypeError(str("expected float32 or uint8 input, got ", name_of(in[0].dtype)));
    return {batched_desc(in[0].shape)};
  }
  bool batched_input(int) const override { return true; }
  const std::vector<Impl>& implementations() const override {
    static const std::vector<Impl> list = {{"copy", unless_copy, prepare<CopyBytes>},
                                           {"view", unless_view, prepare<SameBytes>},
                                           {"integers", unless_integers,
                                            [](const Problem& p) -> std::unique_ptr<Prepared> {
                                              if (p.inputs[0].dtype == DType::kUInt8)
                                                return prepare<MoveIntegers<std::uint8_t>>(p);
                                              if (p.inputs[0].dtype == DType::kInt32)
                                                return prepare<MoveIntegers<std::int32_t>>(p);
                                              return prepare<MoveIntegers<std::int64_t>>(p);
                                            }},
                                           {"bytes", unless_flat, prepare<BytesToFloat>},
                                           {"interleave", unless_interleave, prepare<Interleave>},
                                           {"deinterleave", unless_deinterleave, prepare<Deinterleave>},
                                           {"transpose", unless_transpose, prepare<TransposeImages>}};
    return list;
  }
  std::vector<ValueId> backward(GradBuilder& g, const Call& call,
                                const std::vector<ValueId>& dy) const override {
    if (dy[0] == kNoValue || !call.needs[0]) return {kNoValue};
    if (g.desc(call.inputs[0]).dtype != DType::kFloat32) throw ValueError("integers have no gradient");
    return {dy[0]};
  }
  Cost cost(const Problem&) const override { return {0}; }
};

}  // namespace

void register_layout(Registry& r) {
  static const Convert convert;
  r.add(convert);
}

}  // namespace fastcnn::ops

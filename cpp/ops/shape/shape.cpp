// Copies of channels and transposes of images.
#include "ops/shape/shape.h"

#include <algorithm>

#include "kernels/layout.h"
#include "kernels/table.h"
#include "ops/sliced.h"

namespace fastcnn::ops {
namespace {

// Channels are the slow part of a plain image or of an interleaved block and the fast part of a channels-last
// pixel: a row is an image, a block or a pixel, and its channels are consecutive in each.
struct ChannelRows {
  std::int64_t rows, step, channel;  // step: elements from row to row

  ChannelRows(TensorDesc d, Layout layout) {
    d.layout = d.shape.rank() == 2 && layout == Layout::kNHWC ? Layout::kPlain : layout;
    const Geometry g = geometry_of(d);
    const bool pixels = d.layout == Layout::kNHWC;
    rows = pixels ? g.n * g.pixels() : g.n;
    step = pixels ? g.pixel : g.image;
    channel = g.channel;
  }
};

class ChannelCopy {
 public:
  ChannelCopy(const Problem& p, const std::vector<Piece>& pieces)
      : k_(*p.kernels().layout), pieces_(pieces), to_(p.outputs[0], layout_of(p)) {
    for (const TensorDesc& d : p.inputs) from_.emplace_back(d, layout_of(p));
  }
  std::int64_t rows() const { return to_.rows; }
  void copy(const void* const* in, void* out, Part rows) const {
    for (const Piece& piece : pieces_) {
      float* const to = floats(out) + rows.begin * to_.step + piece.to * to_.channel;
      const std::int64_t n = piece.n * to_.channel;
      if (piece.input < 0) {
        k_.zero_rows(to, to_.step, rows.size(), n);
        continue;
      }
      const ChannelRows& from = from_[static_cast<std::size_t>(piece.input)];
      k_.copy_rows(floats(in[piece.input]) + rows.begin * from.step + piece.from * from.channel, from.step,
                   to, to_.step, rows.size(), n);
    }
  }

 private:
  const LayoutKernels& k_;
  std::vector<Piece> pieces_;
  std::vector<ChannelRows> from_;
  ChannelRows to_;
};

class CopyRows : public Prepared {
 public:
  CopyRows(const Problem& p, const std::vector<Piece>& pieces) : copy_(p, pieces) {
    stages_ = {std::min(copy_.rows(), ceil_div(p.outputs[0].shape.numel(), kFlatItem))};
  }
  void item(const RunArgs& a, int, std::int64_t i, const Worker&) const override {
    copy_.copy(a.in, a.out[0], part_of(copy_.rows(), stages_[0], i));
  }

 private:
  ChannelCopy copy_;
};

class CopyBlock : public Sliced {
 public:
  CopyBlock(const Problem& p, const std::vector<Piece>& pieces) : Sliced(p), copy_(p, pieces) {}
  void slice(const SliceArgs& a) const override { copy_.copy(a.in, a.out[0], {0, 1}); }

 private:
  ChannelCopy copy_;
};

// Channels that are consecutive to pixels that are; steps of what is there once do not matter.
bool gives_plain(const Geometry& from, const Geometry& to) {
  return (from.c == 1 || from.channel == 1) && (to.pixels() == 1 || to.pixel == 1);
}

// Strips of pixels are the items.
class TransposeImages : public Prepared {
 public:
  TransposeImages(const Problem& p, const Geometry& from, const Geometry& to)
      : k_(*p.kernels().layout), from_(from), to_(to), bytes_(p.inputs[0].dtype == DType::kUInt8) {
    strip_ = std::max<std::int64_t>(64, kFlatItem / std::max<std::int64_t>(1, from.c) / 64 * 64);
    strips_ = ceil_div(from.pixels(), strip_);
    stages_ = {from.n * strips_};
  }
  void item(const RunArgs& a, int, std::int64_t i, const Worker&) const override {
    const std::int64_t image = i / strips_, first = i % strips_ * strip_;
    const std::int64_t pixels = std::min(strip_, from_.pixels() - first);
    const std::int64_t src = image * from_.image + first * from_.pixel;
    float* const dst = floats(a.out[0]) + image * to_.image + first * to_.pixel;
    const auto transpose = [&](std::int64_t ls, std::int64_t rows, std::int64_t cols, std::int64_t ld) {
      if (bytes_)
        k_.transpose_u8(static_cast<const std::uint8_t*>(a.in[0]) + src, ls, rows, cols, dst, ld);
      else
        k_.transpose(floats(a.in[0]) + src, ls, rows, cols, dst, ld);
    };
    if (gives_plain(from_, to_))
      transpose(from_.pixel, pixels, from_.c, to_.channel);
    else
      transpose(from_.channel, from_.c, pixels, to_.pixel);
  }

 private:
  const LayoutKernels& k_;
  Geometry from_, to_;
  bool bytes_;
  std::int64_t strip_, strips_;
};

}  // namespace

std::unique_ptr<Prepared> copy_channels(const Problem& p, const std::vector<Piece>& pieces) {
  if (layout_of(p) == Layout::kInterleaved) return std::make_unique<CopyBlock>(p, pieces);
  return std::make_unique<CopyRows>(p, pieces);
}

bool transposes(const Geometry& from, const Geometry& to) {
  return gives_plain(from, to) || gives_plain(to, from);
}

std::unique_ptr<Prepared> transpose_images(const Problem& p, const Geometry& from, const Geometry& to) {
  return std::make_unique<TransposeImages>(p, from, to);
}

void register_shape(Registry& r) {
  register_flatten(r);
  register_channels(r);
  register_subsample(r);
  register_convert(r);
}

}  // namespace fastcnn::ops

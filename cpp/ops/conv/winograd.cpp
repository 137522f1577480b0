// Winograd convolution F(4x4, 3x3), forward and backward data (the forward way over dy with flipped weights).
// An item is a block of tiles: its transformed inputs V and products M stay in L2 from the input transform
// over the 36 matrix products to the output transform, which also does the epilogue.
#include "ops/conv/winograd.h"

#include <cstring>

#include "core/parallel.h"
#include "ops/block.h"
#include "ops/checks.h"
#include "ops/conv/epilogue.h"
#include "ops/pieces.h"

namespace fastcnn::ops {
namespace {

constexpr double kBlockBytes = 1.2e6;         // V and M of one block
constexpr double kStreamedWeights = 1.0e6;    // weights past this come from L3 for every block
constexpr std::int64_t kStreamedTiles = 56;   // so a block must be worth it
constexpr std::int64_t kChunkChannels = 128;  // output channels of M
constexpr std::int64_t kFewTiles = 40;        // below this direct convolution is as fast

struct WinogradSide {  // one direction's images
  std::int64_t n, src_h, src_w, src_c, out_h, out_w, out_c, top, left;
};

class WinogradConv : public Prepared {
 public:
  WinogradConv(const Problem& p, const WinogradSide& side, bool transposed)
      : conv_(*kernels().conv),
        winograd_(*kernels().winograd),
        side_(side),
        transposed_(transposed),
        operands_(conv_operands(p)),
        fusion_(p.fusion),
        threads_(num_threads()),
        grid_(winograd_grid(side.n, side.out_h, side.out_w)),
        out_(side.out_c) {
    const std::int64_t width = kernels().width;
    chunk_ = std::max<std::int64_t>(1, kChunkChannels / out_.size);  // in blocks
    chunk_ = ceil_div(out_.count, ceil_div(out_.count, chunk_));
    const double per_tile = 4.0 * kWinogradProducts * static_cast<double>(side.src_c + chunk_channels(0));
    const bool streamed = static_cast<double>(packed_bytes()) > kStreamedWeights;
    block_ = winograd_block(grid_.tiles(), per_tile, kBlockBytes, streamed ? kStreamedTiles : 1);
    blocks_ = block_ ? ceil_div(grid_.tiles(), block_) : 0;
    v_ = WinogradStrides(side.src_c, block_, width);
    m_ = WinogradStrides(chunk_channels(0), block_, width);
    if (fusion_.statistics) {
      std::vector<std::int64_t> pixels;
      for (std::int64_t b = 0; b < blocks_; ++b) pixels.push_back(pixels_in(b));
      moments_ = PartialMoments(std::move(pixels), side.out_c, fusion_);
    }
  }

  std::size_t packed_bytes() const override {
    return static_cast<std::size_t>(kWinogradProducts * side_.src_c * out_.padded()) * sizeof(float);
  }
  std::size_t scratch_bytes() const override {
    return align64(moments_.bytes()) + static_cast<std::size_t>(threads_) * thread_bytes();
  }
  std::string detail() const override {
    return str(grid_.tiles(), " tiles in ", blocks_, " blocks of ", block_, ", ",
               ceil_div(out_.count, chunk_), " output chunks");
  }

  void pack(const void* const* in, std::byte* packed) const override {
    constexpr std::int64_t kSlice = 16;  // input channels
    const auto* w = static_cast<const float*>(in[1]);
    auto* u = reinterpret_cast<float*>(packed);
    const std::int64_t slices = ceil_div(side_.src_c, kSlice);
    const std::int64_t oc_stride = transposed_ ? 9 : side_.src_c * 9,
                       ic_stride = transposed_ ? side_.out_c * 9 : 9;
    parallel_for(out_.count * slices, [&](std::int64_t i, int) {
      const std::int64_t kb = i / slices, c0 = i % slices * kSlice, lanes = out_.vectors(kb) * out_.width;
      const WinogradWeights s = {oc_stride,
                                 ic_stride,
                                 transposed_,
                                 static_cast<int>(std::min(kSlice, side_.src_c - c0)),
                                 static_cast<int>(out_.length(kb)),
                                 out_.vectors(kb),
                                 product_stride(kb)};
      winograd_.weights(s, w + out_.begin(kb) * oc_stride + c0 * ic_stride, u + weights_at(kb) + c0 * lanes);
    });
  }

  void run(const RunArgs& a) const override {
    auto* parts = reinterpret_cast<float*>(a.scratch);
    std::byte* buffers = a.scratch + align64(moments_.bytes());
    parallel_for(blocks_, [&](std::int64_t b, int thread) {
      item(a, b, parts,
           reinterpret_cast<float*>(buffers + static_cast<std::size_t>(thread) * thread_bytes()));
    });
    if (fusion_.statistics) moments_.merge(parts, a, operands_);
  }

 private:
  std::int64_t chunk_end(std::int64_t kb) const { return std::min(out_.count, kb + chunk_); }
  std::int64_t chunk_channels(std::int64_t kb) const {  // padded to vectors
    const std::int64_t end = chunk_end(kb);
    return (end == out_.count ? out_.padded() : out_.begin(end)) - out_.begin(kb);
  }
  // U: [chunk][36][oc block][ic][lanes]
  std::int64_t product_stride(std::int64_t kb) const {
    return side_.src_c * chunk_channels(kb / chunk_ * chunk_);
  }
  std::int64_t weights_at(std::int64_t kb) const {
    const std::int64_t first = kb / chunk_ * chunk_;
    return side_.src_c * (kWinogradProducts * out_.begin(first) + out_.begin(kb) - out_.begin(first));
  }
  std::size_t zeros_bytes() const { return align64(static_cast<std::size_t>(v_.tile) * sizeof(float)); }
  std::size_t thread_bytes() const { return align64(v_.bytes()) + align64(m_.bytes()) + zeros_bytes(); }

  std::int64_t pixels_in(std::int64_t b) const {
    std::int64_t sum = 0;
    for (std::int64_t t = b * block_; t < std::min(grid_.tiles(), (b + 1) * block_); ++t) {
      const std::int64_t row = t / grid_.cols % grid_.rows, col = t % grid_.cols;
      sum +=
          std::min<std::int64_t>(4, side_.out_h - row * 4) * std::min<std::int64_t>(4, side_.out_w - col * 4);
    }
    return sum;
  }

  void item(const RunArgs& a, std::int64_t b, float* parts, float* buffer) const {
    float* v = buffer;
    float* m = v + align64(v_.bytes()) / sizeof(float);
    float* zeros = m + align64(m_.bytes()) / sizeof(float);
    std::memset(zeros, 0, zeros_bytes());
    const WinogradTiles tiles = grid_.run(b * block_, std::min(block_, grid_.tiles() - b * block_));
    WinogradInput in{};
    in.tiles = tiles;
    in.images = nhwc_images(side_.src_h, side_.src_w, side_.src_c);
    in.x = static_cast<const float*>(a.in[0]);
    in.c = side_.src_c, in.top = side_.top, in.left = side_.left;
    in.zeros = zeros;
    in.v = {v, v_.product, v_.tile};
    winograd_.input(in);
    for (std::int64_t kb = 0; kb < out_.count; kb += chunk_) {
      multiply(reinterpret_cast<const float*>(a.packed), kb, tiles.count, v, m);
      output(a, tiles, kb, m, fusion_.statistics ? moments_.part(parts, b) : nullptr);
    }
  }

  void multiply(const float* u, std::int64_t first, std::int64_t count, const float* v, float* m) const {
    const ConvRun run = {0, side_.src_c};
    for (int xi = 0; xi < kWinogradProducts; ++xi)
      for (std::int64_t kb = first; kb < chunk_end(first); ++kb) {
        ConvRow r{};
        r.in = v + xi * v_.product, r.in_pixel = v_.tile;
        r.runs = &run, r.n_runs = 1;
        r.w = u + weights_at(kb) + xi * product_stride(kb);
        r.out = m + xi * m_.product + out_.begin(kb) - out_.begin(first), r.out_pixel = m_.tile;
        r.pixels = static_cast<int>(count);
        r.oc = static_cast<int>(out_.vectors(kb) * out_.width);
        conv_.row[out_.vectors(kb)](r);
      }
  }

  void output(const RunArgs& a, const WinogradTiles& tiles, std::int64_t kb, float* m, float* part) const {
    const std::int64_t c0 = out_.begin(kb);
    WinogradOutput o{};
    o.tiles = tiles;
    o.images = nhwc_images(side_.out_h, side_.out_w, side_.out_c);
    o.m = {m, m_.product, m_.tile};
    o.c = std::min(side_.out_c, c0 + chunk_ * out_.size) - c0;
    if (operands_.bias >= 0) o.bias = static_cast<const float*>(a.in[operands_.bias]) + c0;
    if (fusion_.add) o.residual = static_cast<const float*>(a.in[operands_.residual]) + c0;
    o.activation = static_cast<Act>(fusion_.activation);
    if (part) o.shift = part + c0, o.sum = o.shift + side_.out_c, o.square = o.sum + side_.out_c;
    auto* y = static_cast<float*>(a.out[0]) + c0;
    if (fusion_.pool.kind == PoolSpec::kNone) {
      o.y = y;
    } else {
      o.pooled = y;
      o.pooled_images = nhwc_images(side_.out_h / 2, side_.out_w / 2, side_.out_c);
      o.average = fusion_.pool.kind == PoolSpec::kAverage;
    }
    winograd_.output(o);
  }

  const ConvKernels& conv_;
  const WinogradKernels& winograd_;
  WinogradSide side_;
  bool transposed_;
  ConvOperands operands_;
  Fusion fusion_;
  int threads_;
  WinogradGrid grid_;
  VectorBlocks out_;
  std::int64_t chunk_ = 1;               // blocks of output channels whose M is in flight
  std::int64_t block_ = 0, blocks_ = 0;  // tiles of a block
  WinogradStrides v_, m_;
  PartialMoments moments_;
};

std::string pool_declines(const Fusion& f) {
  const PoolSpec& p = f.pool;
  if (p.kind == PoolSpec::kNone) return "";
  if (p.kernel[0] != 2 || p.kernel[1] != 2 || p.stride[0] != 2 || p.stride[1] != 2)
    return "pools only 2x2 windows with stride 2";
  return f.keep_unpooled ? "does not keep the value before the pool" : "";
}

std::string forward_declines(const Problem& p) {
  const std::string pool = pool_declines(p.fusion);
  return pool.empty() ? winograd_declines(p, conv_forward_params(p.attrs, p.inputs)) : pool;
}
std::string backward_data_declines(const Problem& p) {
  return winograd_declines(p, conv_backward_data_params(p.attrs, p.inputs));
}
std::string backward_weights_declines(const Problem& p) {
  return winograd_declines(p, conv_backward_weights_params(p.attrs, p.inputs));
}

std::unique_ptr<Prepared> prepare_forward(const Problem& p) {
  const ConvParams c = conv_forward_params(p.attrs, p.inputs);
  return std::make_unique<WinogradConv>(p, WinogradSide{c.n, c.ih, c.iw, c.ic, c.oh, c.ow, c.oc, c.pt, c.pl},
                                        false);
}
std::unique_ptr<Prepared> prepare_backward_data(const Problem& p) {
  const ConvParams c = conv_backward_data_params(p.attrs, p.inputs);
  const WinogradSide side = {c.n, c.oh, c.ow, c.oc, c.ih, c.iw, c.ic, 2 - c.pt, 2 - c.pl};
  return std::make_unique<WinogradConv>(p, side, true);
}

}  // namespace

std::string winograd_declines(const Problem& p, const ConvParams& c) {
  if (c.kh != 3 || c.kw != 3) return str("takes 3x3 kernels, got ", c.kh, "x", c.kw);
  if (c.sh != 1 || c.sw != 1) return str("takes stride 1, got ", c.sh, "x", c.sw);
  if (c.dh != 1 || c.dw != 1) return str("takes dilation 1, got ", c.dh, "x", c.dw);
  if (c.groups != 1) return str("takes one group, got ", c.groups);
  if (std::max({c.pt, c.pl, c.pb, c.pr}) > 2) return "takes padding up to 2";
  const std::string layout = unless_in(p, Layout::kNHWC);
  if (!layout.empty() || p.attrs.text("implementation", "") == "winograd4x4") return layout;
  if (std::min(c.ic, c.oc) < 12) return str("loses to direct below 12 channels, got ", c.ic, " -> ", c.oc);
  const std::int64_t tiles = winograd_grid(c.n, c.oh, c.ow).tiles();
  if (tiles < kFewTiles) return str("loses to direct below ", kFewTiles, " tiles, got ", tiles);
  if (c.oh < 3 || c.ow < 3) return str("mostly empty tiles on ", c.oh, "x", c.ow, " outputs");
  return "";
}

std::int64_t winograd_block(std::int64_t tiles, double per_tile, double bytes, std::int64_t least) {
  constexpr std::int64_t kMost = 168, kEnoughBlocks = 8;
  if (tiles == 0) return 0;
  const std::int64_t unit = kernels().conv->tile[2];
  std::int64_t block = std::clamp(static_cast<std::int64_t>(bytes / per_tile), least, kMost);
  block = std::max(unit, block / unit * unit);
  if (tiles < kEnoughBlocks * block)
    block = std::min(block, ceil_div(ceil_div(tiles, kEnoughBlocks), unit) * unit);
  std::int64_t blocks = ceil_div(tiles, block);
  if (blocks < 32) blocks = ceil_div(blocks, 4) * 4;
  return ceil_div(tiles, blocks);
}

std::vector<Impl> conv2d_winograd(ConvDirection d) {
  switch (d) {
    case ConvDirection::kForward:
      return {{"winograd4x4", forward_declines, prepare_forward}};
    case ConvDirection::kBackwardData:
      return {{"winograd4x4", backward_data_declines, prepare_backward_data}};
    case ConvDirection::kBackwardWeights:
      return {{"winograd4x4", backward_weights_declines, prepare_winograd_backward_weights}};
  }
  return {};
}

}  // namespace fastcnn::ops

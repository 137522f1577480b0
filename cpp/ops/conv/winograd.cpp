// Winograd convolution F(4x4, 3x3), forward and backward data (the forward way over dy with flipped weights).
// An item is a block of tiles: its transformed inputs V and products M stay in L2 from the input transform
// over the 36 matrix products to the output transform, which also does the epilogue.
#include "ops/conv/winograd.h"

#include "ops/conv/epilogue.h"

namespace fastcnn::ops {
namespace {

constexpr double kBlockBytes = 0.6e6;         // V and M of one block: with its pixels they stay in 1 MB of L2
constexpr double kStreamedWeights = 1.0e6;    // weights past this come from L3 for every block
constexpr std::int64_t kStreamedTiles = 56;   // so a block must be worth it
constexpr std::int64_t kStreamedItems = 16;   // and few are enough
constexpr std::int64_t kChunkChannels = 128;  // output channels of M
constexpr std::int64_t kFewTiles = 40;        // below this direct convolution is as fast
constexpr std::int64_t kPackedChannels = 16;  // input channels of an item that packs

class WinogradConv : public Winograd {
 public:
  WinogradConv(const Problem& p, bool transposed)
      : Winograd(p, transposed), bias_(transposed ? -1 : own_input(p, 2)), function_(function_of(p.after)) {
    chunk_ = std::max<std::int64_t>(1, kChunkChannels / out_.size);
    chunk_ = ceil_div(out_.count, ceil_div(out_.count, chunk_));
    block_ = block_size();
    set_inputs(own_, block_);
    m_ = WinogradMatrices(own_, chunk_channels(0), block_, out_.width);
    stages_ = {block_ ? ceil_div(tiles(), block_) : 0};
    y_ = images_of(p.outputs[0]);
    if (const PostOp* post = find(p.after, PostKind::kAdd))
      residual_ = post->in, residual_images_ = images_of(p.inputs[static_cast<std::size_t>(post->in)]);
    if (const PostOp* post = find(p.after, PostKind::kPool)) pools_ = true, average_ = post->pool.average;
    moments_ = PartialMoments(p, stages_[0], out_.c, stages_, shared_, [&](std::int64_t b) {
      std::int64_t sum = 0;
      for (std::int64_t t = b * block_; t < std::min(tiles(), (b + 1) * block_); ++t)
        sum += std::min<std::int64_t>(4, h_ - t / cols_ % rows_ * 4) *
               std::min<std::int64_t>(4, w_ - t % cols_ * 4);
      return sum;
    });
  }

  std::size_t packed_bytes() const override {
    return static_cast<std::size_t>(kWinogradProducts * src_c_ * out_.padded()) * sizeof(float);
  }
  std::string detail() const override {
    return str(tiles(), " tiles in ", stages_[0], " blocks of ", block_, ", ", ceil_div(out_.count, chunk_),
               " output chunks");
  }

  std::int64_t pack_items() const override { return out_.count * ceil_div(src_c_, kPackedChannels); }
  void pack(const void* const* in, std::byte* packed, std::int64_t item) const override {
    const std::int64_t slices = ceil_div(src_c_, kPackedChannels), kb = item / slices;
    const std::int64_t c0 = item % slices * kPackedChannels, lanes = out_.lanes(kb);
    const std::int64_t oc_stride = transposed_ ? 9 : src_c_ * 9, ic_stride = transposed_ ? out_.c * 9 : 9;
    const WinogradWeights s = {oc_stride,
                               ic_stride,
                               transposed_,
                               static_cast<int>(std::min(kPackedChannels, src_c_ - c0)),
                               static_cast<int>(out_.length(kb)),
                               out_.vectors(kb),
                               product_stride(kb)};
    winograd_.weights(s, floats(in[1]) + out_.begin(kb) * oc_stride + c0 * ic_stride,
                      floats(packed) + weights_at(kb) + c0 * lanes);
  }

  void item(const RunArgs& a, int stage, std::int64_t i, const Worker& w) const override {
    if (stage == 1) return moments_.merge(a, i);
    const WinogradBuffer v = v_.in(w.own), m = m_.in(w.own);
    const WinogradTiles block = run(i * block_, std::min(block_, tiles() - i * block_));
    transform_input(a, w, block, v);
    for (std::int64_t kb = 0; kb < out_.count; kb += chunk_) {
      multiply(floats(a.packed), kb, block.count, v, m);
      output(a, block, kb, m, moments_.part(a, i, out_.begin(kb)));
    }
  }

 private:
  // Tiles of a block: nearly equal blocks of whole register tiles.
  std::int64_t block_size() const {
    const std::int64_t all = tiles(), unit = conv_.tile[2];
    if (all == 0) return 0;
    const bool streamed = static_cast<double>(packed_bytes()) > kStreamedWeights;
    const std::int64_t items = items_for(flops(), streamed ? kStreamedItems : kItems);
    std::int64_t block = std::clamp(static_cast<std::int64_t>(kBlockBytes / tile_bytes(chunk_channels(0))),
                                    streamed ? kStreamedTiles : 1, kWinogradTiles);
    block = std::max(unit, block / unit * unit);
    block = std::min(block, round_up(ceil_div(all, items), unit));
    std::int64_t blocks = ceil_div(all, block);
    if (blocks < 32) blocks = round_up(blocks, 4);
    return ceil_div(all, blocks);
  }

  std::int64_t chunk_end(std::int64_t kb) const { return std::min(out_.count, kb + chunk_); }
  std::int64_t chunk_channels(std::int64_t kb) const {  // padded to vectors
    const std::int64_t end = chunk_end(kb);
    return (end == out_.count ? out_.padded() : out_.begin(end)) - out_.begin(kb);
  }
  // U: [chunk][36][oc block][ic][lanes]
  std::int64_t product_stride(std::int64_t kb) const { return src_c_ * chunk_channels(kb / chunk_ * chunk_); }
  std::int64_t weights_at(std::int64_t kb) const {
    const std::int64_t first = kb / chunk_ * chunk_;
    return src_c_ * (kWinogradProducts * out_.begin(first) + out_.begin(kb) - out_.begin(first));
  }

  void multiply(const float* u, std::int64_t first, std::int64_t count, const WinogradBuffer& v,
                const WinogradBuffer& m) const {
    const ConvRun run = {0, src_c_};
    for (int xi = 0; xi < kWinogradProducts; ++xi)
      for (std::int64_t kb = first; kb < chunk_end(first); ++kb) {
        ConvRow r{};
        r.in = v.data + xi * v.product, r.in_pixel = v.tile;
        r.runs = &run, r.n_runs = 1;
        r.w = u + weights_at(kb) + xi * product_stride(kb);
        r.out = m.data + xi * m.product + out_.begin(kb) - out_.begin(first), r.out_pixel = m.tile;
        r.pixels = static_cast<int>(count);
        r.vectors = out_.vectors(kb), r.oc = static_cast<int>(out_.lanes(kb));
        conv_.row(r);
      }
  }

  void output(const RunArgs& a, const WinogradTiles& tiles, std::int64_t kb, const WinogradBuffer& m,
              float* shift) const {
    const std::int64_t c0 = out_.begin(kb);
    WinogradOutput o{};
    o.tiles = tiles;
    o.m = m;
    o.c = std::min(out_.c, c0 + chunk_ * out_.size) - c0;
    if (const float* bias = floats(a.in, bias_)) o.bias = bias + c0;
    if (residual_ >= 0) o.residual = floats(a.in[residual_]) + c0, o.residual_images = residual_images_;
    o.f = function_;
    if (shift) o.shift = shift, o.sum = o.shift + out_.c, o.square = o.sum + out_.c;
    (pools_ ? o.pooled : o.y) = floats(a.out[0]) + c0;
    (pools_ ? o.pooled_images : o.images) = y_;
    o.images.h = h_, o.images.w = w_;
    o.average = average_;
    winograd_.output(o);
  }

  WinogradImages y_{}, residual_images_{};  // y_: of output 0, pooled or not
  int bias_, residual_ = -1;
  Function function_;
  bool pools_ = false, average_ = false;
  std::int64_t chunk_ = 1;  // blocks of output channels whose M is in flight
  std::int64_t block_ = 0;  // tiles of a block
  WinogradMatrices m_;
  PartialMoments moments_;
};

std::string forward_declines(const Problem& p) {
  for (const PostOp& post : p.after) {
    if (post.kind == PostKind::kStatistics) break;
    if (post.out >= 0) return str("does not keep the value before ", text_of(post));
    if (post.kind != PostKind::kPool) continue;
    for (int s = 0; s < 3; ++s)
      if (const std::int64_t size = s ? 2 : 1; post.pool.kernel[s] != size || post.pool.stride[s] != size)
        return "pools only 2x2 windows with stride 2";
  }
  return first_of(unless_epilogue(p, {PostKind::kAdd, PostKind::kFunction, PostKind::kPool}),
                  winograd_declines(p));
}
std::string backward_data_declines(const Problem& p) {
  return first_of(unless_epilogue(p, {PostKind::kAdd}), winograd_declines(p));
}
std::string backward_weights_declines(const Problem& p) {
  return first_of(unless_no_posts(p), winograd_declines(p));
}

}  // namespace

Winograd::Winograd(const Problem& p, bool transposed)
    : conv_(*p.kernels().conv),
      winograd_(*p.kernels().winograd),
      c_(facts_of<ConvParams>(p)),
      transposed_(transposed),
      src_c_(transposed ? c_.oc : c_.ic),
      out_(transposed ? c_.ic : c_.oc, p.kernels()),
      src_(images_of(p.inputs[0])) {
  const auto& out = transposed ? c_.in : c_.out;
  planes_ = c_.n * out[0], h_ = out[1], w_ = out[2];
  rows_ = ceil_div(h_, 4), cols_ = ceil_div(w_, 4);
}

WinogradImages Winograd::images_of(TensorDesc d) {
  d.layout = Layout::kNHWC;  // where it is called otherwise it is the same memory
  const Geometry g = geometry_of(d);
  return {g.spatial[1], g.spatial[2], g.plane, g.row, g.pixel};
}

double Winograd::flops() const {
  return 2.0 * kWinogradProducts * static_cast<double>(tiles()) * static_cast<double>(src_c_ * out_.c);
}

void Winograd::transform_input(const RunArgs& a, const Worker& w, const WinogradTiles& tiles,
                               const WinogradBuffer& v) const {
  const auto before = [&](int d) { return transposed_ ? 2 - c_.before[d] : c_.before[d]; };
  float* const zeros = zeros_.in(w.own);
  std::fill_n(zeros, v_.tile, 0.0f);
  winograd_.input({tiles, src_, floats(a.in[0]), src_c_, before(1), before(2), zeros, v});
}

std::string winograd_declines(const Problem& p) {
  const auto& c = facts_of<ConvParams>(p);
  if (c.kernel[0] != 1 || c.kernel[1] != 3 || c.kernel[2] != 3)
    return str("takes 3x3 kernels, got ", c.kernel[0] == 1 ? "" : str(c.kernel[0], "x"), c.kernel[1], "x",
               c.kernel[2]);
  if (c.in[0] != c.out[0] || c.before[0] != 0 || c.stride[0] != 1)
    return "takes planes as they are, without stride and padding";
  if (c.stride[1] != 1 || c.stride[2] != 1) return str("takes stride 1, got ", c.stride[1], "x", c.stride[2]);
  if (c.dilation[1] != 1 || c.dilation[2] != 1)
    return str("takes dilation 1, got ", c.dilation[1], "x", c.dilation[2]);
  if (c.groups != 1) return str("takes one group, got ", c.groups);
  if (std::max({c.before[1], c.before[2], c.after[1], c.after[2]}) > 2) return "takes padding up to 2";
  const std::string layout = unless_in(p, Layout::kNHWC);
  if (!layout.empty() || p.implementation == "winograd4x4") return layout;
  if (std::min(c.ic, c.oc) < 12) return str("loses to direct below 12 channels, got ", c.ic, " -> ", c.oc);
  const std::int64_t tiles = c.n * c.out[0] * ceil_div(c.out[1], 4) * ceil_div(c.out[2], 4);
  if (tiles < kFewTiles) return str("loses to direct below ", kFewTiles, " tiles, got ", tiles);
  if (c.out[1] < 3 || c.out[2] < 3) return str("mostly empty tiles on ", c.out[1], "x", c.out[2], " outputs");
  return "";
}

const Impl kConvWinograd[3] = {{"winograd4x4", forward_declines, prepare_conv<WinogradConv, false>},
                               {"winograd4x4", backward_data_declines, prepare_conv<WinogradConv, true>},
                               {"winograd4x4", backward_weights_declines, prepare_winograd_backward_weights}};

}  // namespace fastcnn::ops

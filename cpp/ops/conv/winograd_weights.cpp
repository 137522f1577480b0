// Winograd convolution F(4x4, 3x3), backward weights: dw = G^T [sum over tiles of (B^T x B)(A dy A^T)] G, the
// sum in 36 outer products. Small weights: the tiles are cut into groups fixed by the problem, each with sums
// of its own, added in order. Large ones: all threads transform a chunk of tiles, then share out the
// products.
#include <cstring>

#include "kernels/pointwise.h"
#include "ops/conv/winograd.h"

namespace fastcnn::ops {
namespace {

constexpr double kBlockBytes = 0.8e6;         // V and D of a group's block
constexpr double kPrivateBytes = 2.5e6;       // a group's sums
constexpr double kSharedBytes = 24e6;         // V and D of a shared chunk
constexpr std::int64_t kGroupTiles = 128;     // the least that repays clearing and adding a group's sums
constexpr std::int64_t kTransformTiles = 4;   // of an item, at least
constexpr std::int64_t kAddedFloats = 4096;   // of an item
constexpr std::int64_t kReducedChannels = 8;  // input channels of an item
constexpr std::int64_t kBiasPixels = 256;     // in L1 for one pass over their channels
constexpr std::int64_t kBiasChannels = 64;    // of an item that adds parts

class WinogradWeightsConv : public Prepared {
 public:
  explicit WinogradWeightsConv(const Problem& p)
      : conv_(*p.kernels().conv),
        pointwise_(*p.kernels().pointwise),
        winograd_(*p.kernels().winograd),
        c_(facts_of<ConvParams>(p)),
        grid_(c_.n * c_.out[0], c_.out[1], c_.out[2]),
        x_(winograd_images(p.inputs[0])),
        dy_(winograd_images(p.inputs[1])),
        out_(c_.oc, p.kernels()) {
    product_floats_ = c_.ic * out_.padded();
    const std::int64_t tiles = grid_.tiles(), sums = kWinogradProducts * product_floats_;
    const double per_tile = 4.0 * kWinogradProducts * static_cast<double>(c_.ic + out_.padded());
    shares_ = static_cast<double>(sums) * sizeof(float) > kPrivateBytes;
    if (shares_) {
      chunk_ = std::clamp<std::int64_t>(static_cast<std::int64_t>(kSharedBytes / per_tile), 64, 512);
    } else {
      const double flops =
          2.0 * kWinogradProducts * static_cast<double>(tiles) * static_cast<double>(c_.ic * c_.oc);
      groups_ = groups_of(tiles / kGroupTiles, flops, 2 * kItemFlops, sums * 4);
      chunk_ = std::clamp<std::int64_t>(static_cast<std::int64_t>(kBlockBytes / per_tile), 1, kWinogradTiles);
    }
    if (const std::int64_t most = ceil_div(tiles, groups_)) chunk_ = ceil_div(most, ceil_div(most, chunk_));
    v_ = WinogradStrides(c_.ic, chunk_, out_.width);
    d_ = WinogradStrides(out_.padded(), chunk_, out_.width);
    sums_floats_ = round_up(sums, 16);
    sums_ = shared_.add(groups_ * sums_floats_);
    Book& book = shares_ ? shared_ : own_;
    v_data_ = book.add(v_.floats()), d_data_ = book.add(d_.floats());
    zeros_ = own_.add(v_.tile);
    const std::int64_t pixels = grid_.n * c_.out[1] * c_.out[2];
    bias_parts_ = std::clamp<std::int64_t>(ceil_div(pixels, kBiasPixels), 1, kItems);
    bias_ = shared_.add(bias_parts_ * c_.oc);
    plan(p, tiles);
  }

  std::string detail() const override {
    return shares_ ? str(grid_.tiles(), " tiles in shared chunks of ", chunk_)
                   : str(grid_.tiles(), " tiles in ", groups_, " groups, blocks of ", chunk_);
  }

  void item(const RunArgs& a, int stage, std::int64_t i, const Worker& w) const override {
    const Step& step = steps_[static_cast<std::size_t>(stage)];
    float* const sums = sums_.in(a.shared);
    switch (step.kind) {
      case kGroup:
        return sum_group(a, part_of(grid_.tiles(), groups_, i), sums + i * sums_floats_, w);
      case kTransform: {
        const std::int64_t n = transform_tiles(), first = i * n;
        return transform(a, step.first + first, std::min(n, step.count - first), first, a.shared, w);
      }
      case kMultiply: {
        const std::int64_t kb = i % out_.count, xi = i / out_.count;
        if (step.first == 0)
          std::memset(sums_at(sums, xi, kb), 0,
                      static_cast<std::size_t>(c_.ic * out_.lanes(kb)) * sizeof(float));
        return multiply(xi, kb, step.count, a.shared, sums);
      }
      case kAdd:
        return add_groups(sums, i);
      case kReduce:
        return reduce(sums, i, floats(a.out[0]));
      case kBiasParts:
        return sum_bias(floats(a.in[1]), i, bias_.in(a.shared) + i * c_.oc);
      case kBias:
        return add_bias(bias_.in(a.shared), i, floats(a.out[1]));
    }
  }

 private:
  enum Kind { kGroup, kTransform, kMultiply, kAdd, kReduce, kBiasParts, kBias };
  struct Step {  // a stage
    Kind kind;
    std::int64_t first = 0, count = 0;  // tiles of its chunk
  };

  void plan(const Problem& p, std::int64_t tiles) {
    stages_.clear();
    const auto add = [&](std::int64_t items, Step step) { stages_.push_back(items), steps_.push_back(step); };
    if (p.wants(0)) {
      if (!shares_) add(groups_, {kGroup});
      for (std::int64_t t = 0; shares_ && (t == 0 || t < tiles); t += chunk_) {
        const std::int64_t count = std::min(chunk_, tiles - t);
        add(ceil_div(count, transform_tiles()), {kTransform, t, count});
        add(kWinogradProducts * out_.count, {kMultiply, t, count});
      }
      if (groups_ > 1) add(ceil_div(sums_floats_, kAddedFloats), {kAdd});
      add(out_.count * ceil_div(c_.ic, kReducedChannels), {kReduce});
    }
    if (p.wants(1)) {
      add(bias_parts_, {kBiasParts});
      add(ceil_div(c_.oc, kBiasChannels), {kBias});
    }
  }
  std::int64_t transform_tiles() const { return std::max(kTransformTiles, ceil_div(chunk_, kItems)); }
  // Sums: [36][oc block][ic][lanes].
  float* sums_at(float* sums, std::int64_t xi, std::int64_t kb) const {
    return sums + xi * product_floats_ + out_.begin(kb) * c_.ic;
  }

  // Tiles [first, first + count) into rows `at` and following of the buffers in `base`.
  void transform(const RunArgs& a, std::int64_t first, std::int64_t count, std::int64_t at, std::byte* base,
                 const Worker& w) const {
    const WinogradTiles tiles = grid_.run(first, count);
    transform_input(winograd_, tiles, x_, floats(a.in[0]), c_.ic, c_.before[1], c_.before[2],
                    zeros_.in(w.own), v_data_.in(base) + at * v_.tile, v_);
    WinogradGradient g{};
    g.tiles = tiles;
    g.images = dy_;
    g.dy = floats(a.in[1]);
    g.c = c_.oc, g.padded = out_.padded();
    g.d = {d_data_.in(base) + at * d_.tile, d_.product, d_.tile};
    winograd_.gradient(g);
  }

  void multiply(std::int64_t xi, std::int64_t kb, std::int64_t count, std::byte* base, float* sums) const {
    if (count == 0) return;
    ConvOuter o{};
    o.x = v_data_.in(base) + xi * v_.product, o.x_pixel = v_.tile;
    o.dy = d_data_.in(base) + xi * d_.product + out_.begin(kb), o.dy_pixel = d_.tile;
    o.rows = 1, o.pixels = static_cast<int>(count);
    o.m = static_cast<int>(c_.ic), o.vectors = out_.vectors(kb);
    o.dw = sums_at(sums, xi, kb);
    conv_.outer(o);
  }

  void sum_group(const RunArgs& a, Part tiles, float* sums, const Worker& w) const {
    std::memset(sums, 0, static_cast<std::size_t>(sums_floats_) * sizeof(float));
    for (std::int64_t t = tiles.begin; t < tiles.end; t += chunk_) {
      const std::int64_t count = std::min(chunk_, tiles.end - t);
      transform(a, t, count, 0, w.own, w);
      for (std::int64_t xi = 0; xi < kWinogradProducts; ++xi)
        for (std::int64_t kb = 0; kb < out_.count; ++kb) multiply(xi, kb, count, w.own, sums);
    }
  }

  // In memory order: the transform jumps between 36 matrices.
  void add_groups(float* sums, std::int64_t i) const {
    const std::int64_t begin = i * kAddedFloats, n = std::min(kAddedFloats, sums_floats_ - begin);
    const void* parts[kItems];
    for (std::int64_t g = 0; g < groups_; ++g) parts[g] = sums + g * sums_floats_ + begin;
    pointwise_.add({}, parts, groups_, sums + begin, n);
  }

  void reduce(float* sums, std::int64_t i, float* dw) const {
    const std::int64_t slices = ceil_div(c_.ic, kReducedChannels), kb = i / slices;
    const std::int64_t c0 = i % slices * kReducedChannels;
    const WinogradWeights s = {c_.ic * 9,
                               9,
                               false,
                               static_cast<int>(std::min(kReducedChannels, c_.ic - c0)),
                               static_cast<int>(out_.length(kb)),
                               out_.vectors(kb),
                               product_floats_};
    winograd_.weight_gradient(s, sums_at(sums, 0, kb) + c0 * out_.lanes(kb),
                              dw + (out_.begin(kb) * c_.ic + c0) * 9);
  }

  void sum_bias(const float* dy, std::int64_t i, float* sums) const {
    std::memset(sums, 0, static_cast<std::size_t>(c_.oc) * sizeof(float));
    const Part part = part_of(grid_.n * c_.out[1] * c_.out[2], bias_parts_, i);
    for (std::int64_t q = part.begin; q < part.end; q += kBiasPixels)
      conv_.channel_sums(dy + q * dy_.pixel, dy_.pixel, std::min(kBiasPixels, part.end - q), c_.oc, sums);
  }

  void add_bias(const float* parts, std::int64_t i, float* db) const {
    for (std::int64_t c = i * kBiasChannels; c < std::min(c_.oc, (i + 1) * kBiasChannels); ++c)
      db[c] = sum_of(parts + c, bias_parts_, c_.oc);
  }

  const ConvKernels& conv_;
  const PointwiseKernels& pointwise_;
  const WinogradKernels& winograd_;
  ConvParams c_;
  WinogradGrid grid_;
  WinogradImages x_, dy_;
  VectorBlocks out_;
  bool shares_ = false;
  std::int64_t product_floats_ = 0, sums_floats_ = 0;     // of one of the 36 matrices, of a group
  std::int64_t chunk_ = 0, groups_ = 1, bias_parts_ = 1;  // chunk: tiles of the buffers
  WinogradStrides v_, d_;
  Range<float> sums_, v_data_, d_data_, zeros_, bias_;
  std::vector<Step> steps_;
};

}  // namespace

std::unique_ptr<Prepared> prepare_winograd_backward_weights(const Problem& p) {
  return std::make_unique<WinogradWeightsConv>(p);
}

}  // namespace fastcnn::ops

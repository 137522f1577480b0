// Winograd convolution F(4x4, 3x3), backward weights: dw = G^T [sum over tiles of (B^T x B)(A dy A^T)] G, the
// sum in 36 outer products. Small weights: the tiles are cut into groups fixed by the problem, each with sums
// of its own, added in order. Large ones: all threads transform a chunk of tiles, then share out the
// products.
#include <functional>

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

class WinogradWeightsConv : public Winograd {
 public:
  explicit WinogradWeightsConv(const Problem& p)
      : Winograd(p, false), pointwise_(*p.kernels().pointwise), dy_(images_of(p.inputs[1])) {
    product_floats_ = c_.ic * out_.padded();
    const std::int64_t sums = kWinogradProducts * product_floats_;
    const auto tiles_in = [&](double bytes) {
      return static_cast<std::int64_t>(bytes / tile_bytes(out_.padded()));
    };
    shares_ = static_cast<double>(sums) * sizeof(float) > kPrivateBytes;
    if (shares_) {
      chunk_ = std::clamp<std::int64_t>(tiles_in(kSharedBytes), 64, 512);
    } else {
      groups_ = groups_of(tiles() / kGroupTiles, flops(), kItemFlops, sums * 4);
      chunk_ = std::clamp<std::int64_t>(tiles_in(kBlockBytes), 1, kWinogradTiles);
    }
    if (const std::int64_t most = ceil_div(tiles(), groups_)) chunk_ = ceil_div(most, ceil_div(most, chunk_));
    sums_floats_ = round_up(sums, 16);
    sums_ = shared_.add(groups_ * sums_floats_);
    set_inputs(shares_ ? shared_ : own_, chunk_);
    d_ = WinogradMatrices(shares_ ? shared_ : own_, out_.padded(), chunk_, out_.width);
    bias_parts_ = std::clamp<std::int64_t>(ceil_div(pixels(), kBiasPixels), 1, kItems);
    bias_ = shared_.add(bias_parts_ * c_.oc);
    plan(p);
  }

  std::string detail() const override {
    return shares_ ? str(tiles(), " tiles in shared chunks of ", chunk_)
                   : str(tiles(), " tiles in ", groups_, " groups, blocks of ", chunk_);
  }

  void item(const RunArgs& a, int stage, std::int64_t i, const Worker& w) const override {
    steps_[static_cast<std::size_t>(stage)](a, i, w);
  }

 private:
  using Step = std::function<void(const RunArgs&, std::int64_t, const Worker&)>;  // a stage's item

  void plan(const Problem& p) {
    stages_.clear();
    const auto add = [&](std::int64_t items, Step step) {
      stages_.push_back(items), steps_.push_back(std::move(step));
    };
    if (p.wants(0)) {
      if (!shares_)
        add(groups_, [this](const RunArgs& a, std::int64_t i, const Worker& w) { sum_group(a, i, w); });
      for (std::int64_t t = 0; shares_ && (t == 0 || t < tiles()); t += chunk_) {
        const std::int64_t count = std::min(chunk_, tiles() - t), n = transform_tiles();
        add(ceil_div(count, n), [=](const RunArgs& a, std::int64_t i, const Worker& w) {
          transform(a, t + i * n, std::min(n, count - i * n), i * n, a.shared, w);
        });
        add(kWinogradProducts * out_.count, [=](const RunArgs& a, std::int64_t i, const Worker&) {
          const std::int64_t kb = i % out_.count, xi = i / out_.count;
          float* const sums = sums_.in(a.shared);
          if (t == 0) std::fill_n(sums_at(sums, xi, kb), c_.ic * out_.lanes(kb), 0.0f);
          multiply(xi, kb, count, a.shared, sums);
        });
      }
      if (groups_ > 1)
        add(ceil_div(sums_floats_, kAddedFloats),
            [this](const RunArgs& a, std::int64_t i, const Worker&) { add_groups(sums_.in(a.shared), i); });
      add(out_.count * ceil_div(c_.ic, kReducedChannels),
          [this](const RunArgs& a, std::int64_t i, const Worker&) { reduce(a, i); });
    }
    if (p.wants(1)) {
      add(bias_parts_, [this](const RunArgs& a, std::int64_t i, const Worker&) { sum_bias(a, i); });
      add(ceil_div(c_.oc, kBiasChannels), [this](const RunArgs& a, std::int64_t i, const Worker&) {
        for (std::int64_t c = i * kBiasChannels; c < std::min(c_.oc, (i + 1) * kBiasChannels); ++c)
          floats(a.out[1])[c] = sum_of(bias_.in(a.shared) + c, bias_parts_, c_.oc);
      });
    }
  }
  std::int64_t pixels() const { return planes_ * h_ * w_; }
  std::int64_t transform_tiles() const { return std::max(kTransformTiles, ceil_div(chunk_, kItems)); }
  // Sums: [36][oc block][ic][lanes].
  float* sums_at(float* sums, std::int64_t xi, std::int64_t kb) const {
    return sums + xi * product_floats_ + out_.begin(kb) * c_.ic;
  }

  // Tiles [first, first + count) into rows `at` and following of the buffers in `base`.
  void transform(const RunArgs& a, std::int64_t first, std::int64_t count, std::int64_t at, std::byte* base,
                 const Worker& w) const {
    WinogradGradient g{};
    g.tiles = run(first, count);
    transform_input(a, w, g.tiles, v_.in(base, at));
    g.images = dy_;
    g.dy = floats(a.in[1]);
    g.c = c_.oc, g.padded = out_.padded();
    g.d = d_.in(base, at);
    winograd_.gradient(g);
  }

  void multiply(std::int64_t xi, std::int64_t kb, std::int64_t count, std::byte* base, float* sums) const {
    if (count == 0) return;
    ConvOuter o{};
    o.x = v_.at.in(base) + xi * v_.product, o.x_pixel = v_.tile;
    o.dy = d_.at.in(base) + xi * d_.product + out_.begin(kb), o.dy_pixel = d_.tile;
    o.rows = 1, o.pixels = static_cast<int>(count);
    o.m = static_cast<int>(c_.ic), o.vectors = out_.vectors(kb);
    o.dw = sums_at(sums, xi, kb);
    conv_.outer(o);
  }

  void sum_group(const RunArgs& a, std::int64_t group, const Worker& w) const {
    float* const sums = sums_.in(a.shared) + group * sums_floats_;
    std::fill_n(sums, sums_floats_, 0.0f);
    const Part mine = part_of(tiles(), groups_, group);
    for (std::int64_t t = mine.begin; t < mine.end; t += chunk_) {
      const std::int64_t count = std::min(chunk_, mine.end - t);
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

  void reduce(const RunArgs& a, std::int64_t i) const {
    const std::int64_t slices = ceil_div(c_.ic, kReducedChannels), kb = i / slices;
    const std::int64_t c0 = i % slices * kReducedChannels;
    const WinogradWeights s = {c_.ic * 9,
                               9,
                               false,
                               static_cast<int>(std::min(kReducedChannels, c_.ic - c0)),
                               static_cast<int>(out_.length(kb)),
                               out_.vectors(kb),
                               product_floats_};
    winograd_.weight_gradient(s, sums_at(sums_.in(a.shared), 0, kb) + c0 * out_.lanes(kb),
                              floats(a.out[0]) + (out_.begin(kb) * c_.ic + c0) * 9);
  }

  void sum_bias(const RunArgs& a, std::int64_t i) const {
    float* const sums = bias_.in(a.shared) + i * c_.oc;
    std::fill_n(sums, c_.oc, 0.0f);
    const Part part = part_of(pixels(), bias_parts_, i);
    for (std::int64_t q = part.begin; q < part.end; q += kBiasPixels)
      conv_.channel_sums(floats(a.in[1]) + q * dy_.pixel, dy_.pixel, std::min(kBiasPixels, part.end - q),
                         c_.oc, sums);
  }

  const PointwiseKernels& pointwise_;
  WinogradImages dy_;
  bool shares_ = false;
  std::int64_t product_floats_ = 0, sums_floats_ = 0;     // of one of the 36 matrices, of a group
  std::int64_t chunk_ = 0, groups_ = 1, bias_parts_ = 1;  // chunk: tiles of the buffers
  WinogradMatrices d_;
  Range<float> sums_, bias_;
  std::vector<Step> steps_;
};

}  // namespace

std::unique_ptr<Prepared> prepare_winograd_backward_weights(const Problem& p) {
  return prepare<WinogradWeightsConv>(p);
}

}  // namespace fastcnn::ops

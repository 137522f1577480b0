// Winograd convolution F(4x4, 3x3), backward weights: dw = G^T [sum over tiles of (B^T x B)(A dy A^T)] G, the
// sum in 36 outer products. Small weights: the tiles are cut into groups fixed by the problem, each with sums
// of its own, added in order. Large ones: all threads transform a chunk of tiles, then share out the 36
// products.
#include <cstring>

#include "core/parallel.h"
#include "ops/block.h"
#include "ops/conv/winograd.h"
#include "ops/pieces.h"

namespace fastcnn::ops {
namespace {

constexpr double kBlockBytes = 0.8e6;      // V and D of a group's block
constexpr double kPrivateBytes = 2.5e6;    // a group's sums
constexpr double kSharedBytes = 24e6;      // V and D of a shared chunk
constexpr double kGroupMacs = 16e6;        // the least work that is worth a group
constexpr std::int64_t kGroupTiles = 128;  // and the least that repays clearing and adding its sums
constexpr std::int64_t kMaxGroups = 16;
constexpr std::int64_t kBiasParts = 32;

class WinogradWeightsConv : public Prepared {
 public:
  WinogradWeightsConv(const Problem& p, const ConvParams& c)
      : conv_(*kernels().conv),
        winograd_(*kernels().winograd),
        c_(c),
        threads_(num_threads()),
        grid_(winograd_grid(c.n, c.oh, c.ow)),
        out_(c.oc) {
    const auto wanted = [&](std::size_t i) { return i >= p.wanted.size() || p.wanted[i]; };
    want_dw_ = wanted(0), want_db_ = wanted(1);
    const std::int64_t width = kernels().width, tiles = grid_.tiles();
    const double per_tile = 4.0 * kWinogradProducts * static_cast<double>(c.ic + out_.padded());
    shared_ = static_cast<double>(sums_bytes()) > kPrivateBytes;
    if (shared_) {
      chunk_ = std::clamp<std::int64_t>(static_cast<std::int64_t>(kSharedBytes / per_tile), 64, 512);
      chunk_ = std::max<std::int64_t>(1, std::min(chunk_, tiles));
      block_ = ceil_div(chunk_, 16);
    } else {
      block_ = chunk_ = winograd_block(tiles, per_tile, kBlockBytes, 1);
      const double macs = static_cast<double>(tiles) * kWinogradProducts * static_cast<double>(c.ic * c.oc);
      while (groups_ < kMaxGroups && static_cast<double>(groups_) * kGroupMacs < macs &&
             groups_ * 2 * kGroupTiles <= tiles)
        groups_ *= 2;
    }
    v_ = WinogradStrides(c.ic, chunk_, width);
    d_ = WinogradStrides(out_.padded(), chunk_, width);
  }

  std::size_t scratch_bytes() const override {
    const std::size_t buffers = shared_ ? 1 : static_cast<std::size_t>(threads_);
    return static_cast<std::size_t>(groups_) * sums_bytes() + buffers * buffer_bytes() + zeros_bytes() +
           static_cast<std::size_t>(kBiasParts) * bias_bytes();
  }
  std::string detail() const override {
    return shared_ ? str(grid_.tiles(), " tiles in shared chunks of ", chunk_)
                   : str(grid_.tiles(), " tiles in ", groups_, " groups, blocks of ", block_);
  }

  void run(const RunArgs& a) const override {
    auto* sums = reinterpret_cast<float*>(a.scratch);
    std::byte* rest = a.scratch + static_cast<std::size_t>(groups_) * sums_bytes();
    auto* zeros = reinterpret_cast<float*>(rest);
    std::byte* buffers = rest + zeros_bytes();
    std::memset(zeros, 0, zeros_bytes());
    if (want_dw_) {
      if (shared_)
        run_shared(a, sums, zeros, reinterpret_cast<float*>(buffers));
      else
        parallel_for(groups_, [&](std::int64_t g, int thread) {
          float* buffer =
              reinterpret_cast<float*>(buffers + static_cast<std::size_t>(thread) * buffer_bytes());
          run_group(a, g, sums + g * sums_floats(), zeros, buffer);
        });
      add_groups(sums);
      reduce(sums, static_cast<float*>(a.out[0]));
    }
    if (want_db_) {
      const std::size_t used = (shared_ ? 1 : static_cast<std::size_t>(threads_)) * buffer_bytes();
      bias_gradient(static_cast<const float*>(a.in[1]), reinterpret_cast<float*>(buffers + used),
                    static_cast<float*>(a.out[1]));
    }
  }

 private:
  // Sums: [36][oc block][ic][lanes].
  std::int64_t product_floats() const { return c_.ic * out_.padded(); }
  std::size_t sums_bytes() const {
    return align64(static_cast<std::size_t>(kWinogradProducts * product_floats()) * sizeof(float));
  }
  std::int64_t sums_floats() const { return static_cast<std::int64_t>(sums_bytes() / sizeof(float)); }
  std::size_t buffer_bytes() const { return align64(v_.bytes()) + align64(d_.bytes()); }
  std::size_t zeros_bytes() const { return align64(static_cast<std::size_t>(v_.tile) * sizeof(float)); }
  std::size_t bias_bytes() const { return align64(static_cast<std::size_t>(c_.oc) * sizeof(float)); }

  // Tiles [first, first + count) into rows `at` and following of the buffer.
  void transform(const RunArgs& a, std::int64_t first, std::int64_t count, std::int64_t at,
                 const float* zeros, float* buffer) const {
    float* d = buffer + align64(v_.bytes()) / sizeof(float);
    WinogradInput in{};
    in.tiles = grid_.run(first, count);
    in.images = nhwc_images(c_.ih, c_.iw, c_.ic);
    in.x = static_cast<const float*>(a.in[0]);
    in.c = c_.ic, in.top = c_.pt, in.left = c_.pl;
    in.zeros = zeros;
    in.v = {buffer + at * v_.tile, v_.product, v_.tile};
    winograd_.input(in);
    WinogradGradient g{};
    g.tiles = in.tiles;
    g.images = nhwc_images(c_.oh, c_.ow, c_.oc);
    g.dy = static_cast<const float*>(a.in[1]);
    g.c = c_.oc, g.padded = out_.padded();
    g.d = {d + at * d_.tile, d_.product, d_.tile};
    winograd_.gradient(g);
  }

  void multiply(int xi, std::int64_t count, const float* buffer, float* sums) const {
    const float* d = buffer + align64(v_.bytes()) / sizeof(float);
    for (std::int64_t kb = 0; kb < out_.count; ++kb) {
      ConvOuter o{};
      o.x = buffer + xi * v_.product, o.x_pixel = v_.tile;
      o.dy = d + xi * d_.product + out_.begin(kb), o.dy_pixel = d_.tile;
      o.rows = 1, o.pixels = static_cast<int>(count);
      o.m = static_cast<int>(c_.ic);
      o.dw = sums + xi * product_floats() + out_.begin(kb) * c_.ic;
      conv_.outer[out_.vectors(kb)](o);
    }
  }

  void run_group(const RunArgs& a, std::int64_t group, float* sums, const float* zeros, float* buffer) const {
    std::memset(sums, 0, sums_bytes());
    const std::int64_t tiles = grid_.tiles(), end = tiles * (group + 1) / groups_;
    for (std::int64_t t = tiles * group / groups_; t < end; t += block_) {
      const std::int64_t count = std::min(block_, end - t);
      transform(a, t, count, 0, zeros, buffer);
      for (int xi = 0; xi < kWinogradProducts; ++xi) multiply(xi, count, buffer, sums);
    }
  }

  void run_shared(const RunArgs& a, float* sums, const float* zeros, float* buffer) const {
    const auto clear = [&](int xi) {
      std::memset(sums + xi * product_floats(), 0,
                  static_cast<std::size_t>(product_floats()) * sizeof(float));
    };
    const std::int64_t tiles = grid_.tiles();
    if (tiles == 0)
      for (int xi = 0; xi < kWinogradProducts; ++xi) clear(xi);
    for (std::int64_t t = 0; t < tiles; t += chunk_) {
      const std::int64_t count = std::min(chunk_, tiles - t);
      parallel_for(ceil_div(count, block_), [&](std::int64_t b, int) {
        transform(a, t + b * block_, std::min(block_, count - b * block_), b * block_, zeros, buffer);
      });
      parallel_for(kWinogradProducts, [&](std::int64_t xi, int) {
        if (t == 0) clear(static_cast<int>(xi));
        multiply(static_cast<int>(xi), count, buffer, sums);
      });
    }
  }

  // Adds the groups' sums in order, in memory order: the transform jumps between 36 matrices.
  void add_groups(float* sums) const {
    constexpr std::int64_t kSlice = 4096;
    if (groups_ == 1) return;
    const std::int64_t all = kWinogradProducts * product_floats();
    parallel_for(ceil_div(all, kSlice), [&](std::int64_t i, int) {
      const std::int64_t n = std::min(kSlice, all - i * kSlice);
      for (std::int64_t g = 1; g < groups_; ++g) {
        const float* more = sums + g * sums_floats() + i * kSlice;
        conv_.finish({sums + i * kSlice, more, n, n, 1, n, Act::kNone});
      }
    });
  }

  void reduce(const float* sums, float* dw) const {
    constexpr std::int64_t kSlice = 8;  // input channels
    const std::int64_t slices = ceil_div(c_.ic, kSlice);
    parallel_for(out_.count * slices, [&](std::int64_t i, int) {
      const std::int64_t kb = i / slices, c0 = i % slices * kSlice;
      const WinogradWeights s = {c_.ic * 9,
                                 9,
                                 false,
                                 static_cast<int>(std::min(kSlice, c_.ic - c0)),
                                 static_cast<int>(out_.length(kb)),
                                 out_.vectors(kb),
                                 product_floats()};
      winograd_.weight_gradient(s, sums + out_.begin(kb) * c_.ic + c0 * out_.vectors(kb) * out_.width,
                                dw + (out_.begin(kb) * c_.ic + c0) * 9);
    });
  }

  void bias_gradient(const float* dy, float* parts, float* db) const {
    const std::int64_t pixels = c_.n * c_.oh * c_.ow,
                       stride = static_cast<std::int64_t>(bias_bytes() / sizeof(float));
    parallel_for(kBiasParts, [&](std::int64_t i, int) {
      std::memset(parts + i * stride, 0, bias_bytes());
      const std::int64_t end = pixels * (i + 1) / kBiasParts;
      for (std::int64_t q = pixels * i / kBiasParts; q < end; q += 256)
        conv_.channel_sums(dy + q * c_.oc, c_.oc, std::min<std::int64_t>(256, end - q), c_.oc,
                           parts + i * stride);
    });
    for (std::int64_t c = 0; c < c_.oc; ++c) {
      double sum = 0;
      for (std::int64_t i = 0; i < kBiasParts; ++i) sum += parts[i * stride + c];
      db[c] = static_cast<float>(sum);
    }
  }

  const ConvKernels& conv_;
  const WinogradKernels& winograd_;
  ConvParams c_;
  int threads_;
  WinogradGrid grid_;
  VectorBlocks out_;
  bool want_dw_ = true, want_db_ = true, shared_ = false;
  std::int64_t block_ = 0, chunk_ = 0, groups_ = 1;  // chunk: tiles of the buffers
  WinogradStrides v_, d_;
};

}  // namespace

std::unique_ptr<Prepared> prepare_winograd_backward_weights(const Problem& p) {
  return std::make_unique<WinogradWeightsConv>(p, conv_backward_weights_params(p.attrs, p.inputs));
}

}  // namespace fastcnn::ops

// Direct convolution, backward weights: dw[tap][ic][oc] is the sum over pixels of x[ic] dy[oc], in register
// tiles of outer products. The pixels are cut into strips of rows, the strips into groups, the output
// channels into chunks, all fixed by the problem. Each (group, chunk) sums into its own block laid out like
// packed weights; the groups' blocks are added in order.
#include <algorithm>
#include <cstring>

#include "core/parallel.h"
#include "ops/block.h"
#include "ops/conv/direct.h"
#include "ops/pieces.h"

namespace fastcnn::ops {
namespace {

constexpr std::int64_t kStripPixels = 256;  // dy's strip of one block of channels stays in L1
constexpr std::int64_t kBlockRows = 1152;   // taps times input channels of one patch
constexpr double kUnitMacs = 24e6;          // the least work that is worth a unit of its own
constexpr std::int64_t kMaxUnits = 16;

class DirectConvWeights : public Prepared {
 public:
  DirectConvWeights(const Problem& p, const ConvParams& c)
      : kernels_(*kernels().conv), grid_(forward_grid(c)), kernel_(c.kh * c.kw), threads_(num_threads()) {
    const auto wanted = [&](std::size_t i) { return i >= p.wanted.size() || p.wanted[i]; };
    want_dw_ = wanted(0), want_db_ = wanted(1);
    const bool flat = flatten_grid(grid_, kStripPixels);
    in_ = ChannelBlocks(grid_.src_group(), std::clamp<std::int64_t>(kBlockRows / grid_.taps, 64, 512));
    out_ = VectorBlocks(grid_.out_group());
    strip_ = flat ? 1 : std::clamp<std::int64_t>(kStripPixels / grid_.out_w, 1, grid_.out_h);
    strips_ = ceil_div(grid_.out_h, strip_);
    strip_ = ceil_div(grid_.out_h, strips_);
    strips_ = ceil_div(grid_.out_h, strip_);
    choose_units(c.macs());
    make_runs();
  }

  std::size_t scratch_bytes() const override {
    return static_cast<std::size_t>(item_groups_) * (acc_bytes() + db_bytes()) +
           static_cast<std::size_t>(threads_) * thread_bytes();
  }
  std::string detail() const override {
    const int vectors = out_.vectors(0);
    return str("tile ", kernels_.tile[vectors], "x", vectors, ", ", item_groups_, " groups of ",
               grid_.n * strips_, " strips of ", strip_, " rows, ", in_.count, " input blocks, ", chunks_,
               " output chunks", grid_.padded ? "" : ", unpacked input");
  }

  void run(const RunArgs& a) const override {
    auto* acc = reinterpret_cast<float*>(a.scratch);
    auto* db = reinterpret_cast<float*>(a.scratch + static_cast<std::size_t>(item_groups_) * acc_bytes());
    std::byte* buffers = a.scratch + static_cast<std::size_t>(item_groups_) * (acc_bytes() + db_bytes());
    parallel_for(grid_.groups * chunks_ * item_groups_, [&](std::int64_t u, int thread) {
      const std::int64_t group = u % item_groups_, part = u / item_groups_;
      unit(a, part / chunks_, part % chunks_, group, acc + group * group_floats(), db + group * db_floats(),
           reinterpret_cast<float*>(buffers + static_cast<std::size_t>(thread) * thread_bytes()));
    });
    if (want_dw_) reduce_weights(acc, static_cast<float*>(a.out[0]));
    if (want_db_) reduce_bias(db, static_cast<float*>(a.out[1]));
  }

 private:
  // One group's accumulators, [groups][oc block][ic block][tap][ic][lanes].
  std::int64_t part_floats() const { return grid_.taps * grid_.src_group() * out_.padded(); }
  std::int64_t group_floats() const { return static_cast<std::int64_t>(acc_bytes() / sizeof(float)); }
  std::size_t acc_bytes() const {
    return align64(static_cast<std::size_t>(grid_.groups * part_floats()) * sizeof(float));
  }
  std::int64_t db_floats() const { return static_cast<std::int64_t>(db_bytes() / sizeof(float)); }
  std::size_t db_bytes() const { return align64(static_cast<std::size_t>(grid_.out_c) * sizeof(float)); }
  std::int64_t block_at(std::int64_t g, std::int64_t kb, std::int64_t ib) const {
    return g * part_floats() + grid_.taps * grid_.src_group() * out_.begin(kb) +
           grid_.taps * in_.begin(ib) * out_.vectors(kb) * out_.width;
  }

  std::int64_t patch_cols() const { return (grid_.out_w - 1) * grid_.step_w + grid_.patch_w; }
  std::int64_t patch_rows(std::int64_t rows) const { return (rows - 1) * grid_.step_h + grid_.patch_h; }
  std::size_t patch_bytes() const {
    if (!grid_.padded) return 0;
    return align64(static_cast<std::size_t>(patch_rows(strip_) * patch_cols() * in_.size) * sizeof(float));
  }
  // Only the last block of output channels can be narrower than its vectors: dy is then copied with zeros.
  bool ragged(std::int64_t kb) const { return out_.length(kb) % out_.width != 0; }
  std::size_t tail_bytes() const {
    if (!ragged(out_.count - 1)) return 0;
    return align64(static_cast<std::size_t>(strip_ * grid_.out_w * out_.size) * sizeof(float));
  }
  std::size_t thread_bytes() const { return patch_bytes() + tail_bytes(); }

  // Groups cost memory for their accumulators, chunks read the input again.
  void choose_units(double macs) {
    const std::int64_t strips = std::max<std::int64_t>(1, grid_.n * strips_);
    std::int64_t want = 1;
    while (want < kMaxUnits && static_cast<double>(want) * kUnitMacs < macs) want *= 2;
    const double weights = static_cast<double>(acc_bytes());
    const double input = 4.0 * static_cast<double>(grid_.n * grid_.src_h * grid_.src_w * grid_.src_c);
    double best = 0;
    for (std::int64_t c = 1; c <= std::min(out_.count, want); ++c) {
      const std::int64_t g = std::min(strips, ceil_div(want, c * grid_.groups));
      const double lacking =
          static_cast<double>(want) / static_cast<double>(std::min(want, g * c * grid_.groups));
      const double cost =
          (3 * static_cast<double>(g) * weights + 2 * static_cast<double>(c) * input) * lacking;
      if (best == 0 || cost < best) best = cost, chunks_ = c, item_groups_ = g;
    }
  }

  void make_runs() {
    for (int last = 0; last < 2; ++last) {
      const std::int64_t c = in_.length(last ? in_.count - 1 : 0);
      const std::int64_t pixel = grid_.padded ? c : grid_.src_c;
      const std::int64_t row = grid_.padded ? patch_cols() * c : grid_.src_w * grid_.src_c;
      runs_[last] = runs_of(grid_.phases[0], row, pixel, c);
    }
  }

  void unit(const RunArgs& a, std::int64_t g, std::int64_t chunk, std::int64_t group, float* acc, float* db,
            float* buffer) const {
    const std::int64_t kb0 = out_.count * chunk / chunks_, kb1 = out_.count * (chunk + 1) / chunks_;
    if (kb0 == kb1) return;
    const std::int64_t c0 = out_.begin(kb0), c1 = out_.begin(kb1 - 1) + out_.length(kb1 - 1);
    const std::int64_t begin = block_at(g, kb0, 0);
    const std::int64_t end = kb1 == out_.count ? (g + 1) * part_floats() : block_at(g, kb1, 0);
    if (want_dw_) std::memset(acc + begin, 0, static_cast<std::size_t>(end - begin) * sizeof(float));
    const std::int64_t channel = g * grid_.out_group() + c0;
    if (want_db_) std::memset(db + channel, 0, static_cast<std::size_t>(c1 - c0) * sizeof(float));
    const std::int64_t items = grid_.n * strips_;
    for (std::int64_t i = items * group / item_groups_; i < items * (group + 1) / item_groups_; ++i) {
      const std::int64_t n = i / strips_, row0 = i % strips_ * strip_,
                         row1 = std::min(grid_.out_h, row0 + strip_);
      const float* dy =
          static_cast<const float*>(a.in[1]) + (n * grid_.out_h + row0) * grid_.out_w * grid_.out_c;
      const std::int64_t cols =
          grid_.cols(row0);  // short only in a flattened grid, whose strips are single rows
      if (want_db_)
        kernels_.channel_sums(dy + channel, grid_.out_c, (row1 - row0) * cols, c1 - c0, db + channel);
      if (want_dw_) multiply(a, n, g, row0, row1, cols, kb0, kb1, dy + g * grid_.out_group(), acc, buffer);
    }
  }

  void multiply(const RunArgs& a, std::int64_t n, std::int64_t g, std::int64_t row0, std::int64_t row1,
                std::int64_t cols, std::int64_t kb0, std::int64_t kb1, const float* dy, float* acc,
                float* buffer) const {
    float* tail = buffer + patch_bytes() / sizeof(float);
    const std::int64_t last = out_.count - 1, dy_row = grid_.out_w * grid_.out_c;
    if (kb1 == out_.count && ragged(last))
      kernels_.patch({dy + out_.begin(last), dy_row, grid_.out_c, row1 - row0, cols, 0, 0, row1 - row0, cols,
                      out_.length(last), tail, out_.vectors(last) * out_.width});
    for (std::int64_t ib = 0; ib < in_.count; ++ib) {
      const std::int64_t c = in_.length(ib), y0 = row0 * grid_.step_h + grid_.corner_row;
      const float* image = static_cast<const float*>(a.in[0]) + n * grid_.src_h * grid_.src_w * grid_.src_c +
                           g * grid_.src_group() + in_.begin(ib);
      const float* src;
      std::ptrdiff_t src_row, src_pixel;
      if (grid_.padded) {
        src = buffer, src_pixel = c, src_row = patch_cols() * c;
        kernels_.patch({image, grid_.src_w * grid_.src_c, grid_.src_c, grid_.src_h, grid_.src_w, y0,
                        grid_.corner_col, patch_rows(row1 - row0), patch_cols(), c, buffer, c});
      } else {
        src_pixel = grid_.src_c, src_row = grid_.src_w * grid_.src_c;
        src = image + y0 * src_row + grid_.corner_col * src_pixel;
      }
      for (std::int64_t kb = kb0; kb < kb1; ++kb) {
        const std::int64_t lanes = out_.vectors(kb) * out_.width;
        ConvOuter o{};
        o.x_row = grid_.step_h * src_row, o.x_pixel = grid_.step_w * src_pixel;
        o.dy = ragged(kb) ? tail : dy + out_.begin(kb);
        o.dy_pixel = ragged(kb) ? lanes : grid_.out_c;
        o.dy_row = ragged(kb) ? cols * lanes : dy_row;
        o.rows = static_cast<int>(row1 - row0), o.pixels = static_cast<int>(cols);
        o.dw = acc + block_at(g, kb, ib);
        for (const ConvRun& run : runs_[ib + 1 == in_.count]) {
          o.x = src + run.offset;
          o.m = static_cast<int>(run.length);
          kernels_.outer[out_.vectors(kb)](o);
          o.dw += run.length * lanes;
        }
      }
    }
  }

  void reduce_weights(const float* acc, float* dw) const {
    constexpr std::int64_t kSlice = 16;  // input channels
    const std::int64_t slices = ceil_div(in_.size, kSlice);
    parallel_for(grid_.groups * out_.count * in_.count * slices, [&](std::int64_t i, int) {
      const std::int64_t c0 = i % slices * kSlice, ib = i / slices % in_.count;
      const std::int64_t kb = i / slices / in_.count % out_.count, g = i / slices / in_.count / out_.count;
      const std::int64_t lanes = out_.vectors(kb) * out_.width, channels = in_.length(ib);
      if (c0 >= channels) return;
      ConvWeights s{};
      s.oc_stride = grid_.src_group() * kernel_, s.ic_stride = kernel_;
      s.packed_tap = channels * lanes;
      s.taps = grid_.phases[0].indices.data(), s.n_taps = static_cast<int>(grid_.taps);
      s.ic = static_cast<int>(std::min(kSlice, channels - c0)), s.oc = static_cast<int>(out_.length(kb));
      s.vectors = out_.vectors(kb);
      kernels_.unpack_weights(
          s, acc + block_at(g, kb, ib) + c0 * lanes, group_floats(), static_cast<int>(item_groups_),
          dw + ((g * grid_.out_group() + out_.begin(kb)) * grid_.src_group() + in_.begin(ib) + c0) * kernel_);
    });
  }

  void reduce_bias(const float* partial, float* db) const {
    for (std::int64_t c = 0; c < grid_.out_c; ++c) {
      double sum = 0;
      for (std::int64_t g = 0; g < item_groups_; ++g) sum += partial[g * db_floats() + c];
      db[c] = static_cast<float>(sum);
    }
  }

  const ConvKernels& kernels_;
  ConvGrid grid_;
  std::int64_t kernel_;
  int threads_;
  bool want_dw_ = true, want_db_ = true;
  ChannelBlocks in_;
  VectorBlocks out_;
  std::int64_t strip_ = 1, strips_ = 1, chunks_ = 1, item_groups_ = 1;
  std::vector<ConvRun> runs_[2];  // [last input block]
};

}  // namespace

std::unique_ptr<Prepared> prepare_direct_backward_weights(const Problem& p) {
  return std::make_unique<DirectConvWeights>(p, conv_backward_weights_params(p.attrs, p.inputs));
}

}  // namespace fastcnn::ops

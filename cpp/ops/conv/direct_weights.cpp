// Direct convolution, backward weights: dw[tap][ic][oc] is the sum over pixels of x[ic] dy[oc], in register
// tiles of outer products. The pixels are cut into strips, the strips into groups, the output channels into
// chunks, all fixed by the problem. Each (group, chunk) sums into its own block laid out like packed weights;
// the groups' blocks are added in order.
#include "ops/conv/direct.h"

namespace fastcnn::ops {
namespace {

constexpr std::int64_t kStripPixels = 256;    // dy's strip of one block of channels stays in L1
constexpr double kUnitMacs = 24e6;            // the least work that is worth a unit of its own
constexpr std::int64_t kCheapUnits = 16;      // more of them only where each sums over enough pixels that its
constexpr std::int64_t kGroupPixels = 1024;   // block, written and read once more, is a small part of it
constexpr std::int64_t kSlice = 16;           // input channels of an item that adds up weights
constexpr std::int64_t kBiasChannels = 1024;  // of one that adds up biases

class DirectConvWeights : public StripWeights {
 public:
  explicit DirectConvWeights(const Problem& p) : StripWeights(p) {
    const bool flat = flatten_grid(grid_, kStripPixels);
    in_ = ChannelBlocks(grid_.src_group(), std::clamp<std::int64_t>(kBlockRows / grid_.taps, 64, 512));
    weights_.out = VectorBlocks(grid_.out_group(), p.kernels());
    const int axis = flat ? 1 : axis_of(static_cast<double>(grid_.out[2]) / kStripPixels);
    const std::int64_t wanted = flat ? 1 : axis == 1 ? kStripPixels / grid_.out[2] : kStripPixels;
    cut(axis, grid_.out[axis], std::clamp<std::int64_t>(wanted, 1, grid_.out[axis]), 1);
    choose_units();
    acc_floats_ = round_up(grid_.groups * weights_.group_floats(), 16),
    db_floats_ = round_up(grid_.out_c, 16);
    acc_ = shared_.add(groups_ * acc_floats_), db_ = shared_.add(groups_ * db_floats_);
    if (ragged(out_.count - 1)) tail_ = own_.add(rows_ * cols_ * out_.size);
    if (want_dw_) weight_items_ = grid_.groups * out_.count * in_.count * ceil_div(in_.size, kSlice);
    stages_ = {grid_.groups * chunks_ * groups_,
               weight_items_ + (want_db_ ? ceil_div(grid_.out_c, kBiasChannels) : 0)};
  }

  std::string detail() const override {
    return weights_.text(k_, str(groups_, " groups of ", grid_.planes(), " times ", text()), chunks_);
  }

  void item(const RunArgs& a, int stage, std::int64_t i, const Worker& w) const override {
    if (stage == 0) return unit(a, w, i);
    if (i < weight_items_) return reduce_weights(i, acc_.in(a.shared), floats(a.out[0]));
    const std::int64_t first = (i - weight_items_) * kBiasChannels;
    for (std::int64_t c = first; c < std::min(grid_.out_c, first + kBiasChannels); ++c)
      floats(a.out[1])[c] = sum_of(db_.in(a.shared) + c, groups_, db_floats_);
  }

 private:
  // One group's accumulators lie like packed weights.
  std::int64_t block_at(std::int64_t g, std::int64_t kb, std::int64_t ib) const {
    return weights_.at(g, kb, grid_.phases[0], ib);
  }
  // Only the last block of output channels can be narrower than its vectors: dy is then copied with zeros.
  bool ragged(std::int64_t kb) const { return out_.length(kb) % out_.width != 0; }

  // Groups cost memory for their accumulators, chunks read the input again.
  void choose_units() {
    const double macs = c_.macs();
    std::int64_t want = 1;
    while (want < kItems && static_cast<double>(want) * kUnitMacs < macs &&
           (want < kCheapUnits || want * kGroupPixels < c_.n * c_.out_pixels()))
      want *= 2;
    const std::int64_t bytes = grid_.groups * weights_.group_floats() * std::int64_t{sizeof(float)};
    const std::int64_t most = groups_of(std::max<std::int64_t>(1, strips()), 1e30, 1, bytes);
    const double weights = static_cast<double>(bytes);
    const double input = 4.0 * static_cast<double>(c_.n * c_.in_pixels() * c_.ic);
    double best = 0;
    for (std::int64_t chunks = 1; chunks <= std::min(out_.count, want); ++chunks) {
      const std::int64_t g = std::min(most, ceil_div(want, chunks * grid_.groups));
      const double lacking =
          static_cast<double>(want) / static_cast<double>(std::min(want, g * chunks * grid_.groups));
      const double cost =
          (3 * static_cast<double>(g) * weights + 2 * static_cast<double>(chunks) * input) * lacking;
      if (best == 0 || cost < best) best = cost, chunks_ = chunks, groups_ = g;
    }
  }

  void unit(const RunArgs& a, const Worker& w, std::int64_t i) const {
    const std::int64_t group = i % groups_, block = i / groups_, g = block / chunks_;
    const Part blocks = part_of(out_.count, chunks_, block % chunks_);
    const std::int64_t c0 = out_.begin(blocks.begin), c = out_.end(blocks.end - 1) - c0;
    const std::int64_t channel = g * out_.c + c0;
    float* const acc = acc_.in(a.shared) + group * acc_floats_;
    float* const db = db_.in(a.shared) + group * db_floats_;
    const std::int64_t begin = block_at(g, blocks.begin, 0);
    const std::int64_t end =
        blocks.end == out_.count ? (g + 1) * weights_.group_floats() : block_at(g, blocks.end, 0);
    if (want_dw_) std::fill(acc + begin, acc + end, 0.0f);
    if (want_db_) std::fill_n(db + channel, c, 0.0f);
    for_strips(a, group, channel, c, db,
               [&](const ConvStrip& s, const float* dy) { multiply(a, w, g, s, blocks, dy - c0, acc); });
  }

  // dy: at the strip's first pixel and the first channel of group g.
  void multiply(const RunArgs& a, const Worker& w, std::int64_t g, const ConvStrip& s, const Part& blocks,
                const float* dy, float* acc) const {
    float* const tail = tail_.in(w.own);
    const std::int64_t last = out_.count - 1, dy_row = grid_.out[2] * dy_pixel_;
    const std::int64_t rows = s.row1 - s.row0, cols = s.cols(grid_, s.row0);
    if (blocks.end == out_.count && ragged(last))
      k_.patch({dy + out_.begin(last), dy_row, dy_pixel_, rows, cols, 0, 0, rows, cols, out_.length(last),
                tail, out_.lanes(last)});
    for (std::int64_t ib = 0; ib < in_.count; ++ib) {
      const ConvSteps step = steps(ib);
      const float* const src = source(a, w, s, g * in_.c, ib);
      for (std::int64_t kb = blocks.begin; kb < blocks.end; ++kb) {
        const std::int64_t lanes = out_.lanes(kb);
        ConvOuter o{};
        o.x_row = grid_.step[1] * step.row, o.x_pixel = grid_.step[2] * step.pixel;
        o.dy = ragged(kb) ? tail : dy + out_.begin(kb);
        o.dy_pixel = ragged(kb) ? lanes : dy_pixel_;
        o.dy_row = ragged(kb) ? cols * lanes : dy_row;
        o.rows = static_cast<int>(rows), o.pixels = static_cast<int>(cols);
        o.dw = acc + block_at(g, kb, ib);
        o.vectors = out_.vectors(kb);
        for (const ConvRun& run : grid_.phases[0].runs[in_.last(ib)]) {
          o.x = src + run.offset;
          o.m = static_cast<int>(run.length);
          k_.outer(o);
          o.dw += run.length * lanes;
        }
      }
    }
  }

  void reduce_weights(std::int64_t i, const float* acc, float* dw) const {
    const std::int64_t slices = ceil_div(in_.size, kSlice), c0 = i % slices * kSlice;
    const std::int64_t ib = i / slices % in_.count, kb = i / slices / in_.count % out_.count;
    const std::int64_t g = i / slices / in_.count / out_.count;
    std::int64_t to;
    ConvWeights s = weights_.block(c_, false, g, kb, ib, &to);
    if (c0 >= s.ic) return;
    s.taps = grid_.phases[0].indices.data(), s.n_taps = static_cast<int>(grid_.taps);
    s.ic = static_cast<int>(std::min(kSlice, s.ic - c0));
    k_.unpack_weights(s, acc + block_at(g, kb, ib) + c0 * out_.lanes(kb), acc_floats_,
                      static_cast<int>(groups_), dw + to + c0 * s.ic_stride);
  }

  PackedWeights weights_{grid_, in_, {}};
  const VectorBlocks& out_ = weights_.out;
  std::int64_t chunks_ = 1, weight_items_ = 0;
  std::int64_t acc_floats_ = 0, db_floats_ = 0;  // of a group
  Range<float> acc_, db_, tail_;
};

}  // namespace

std::unique_ptr<Prepared> prepare_direct_backward_weights(const Problem& p) {
  return prepare<DirectConvWeights>(p);
}

}  // namespace fastcnn::ops

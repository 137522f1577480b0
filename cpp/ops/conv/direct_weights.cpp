// Direct convolution, backward weights: dw[tap][ic][oc] is the sum over pixels of x[ic] dy[oc], in register
// tiles of outer products. The pixels are cut into strips, the strips into groups, the output channels into
// chunks, all fixed by the problem. Each (group, chunk) sums into its own block laid out like packed weights;
// the groups' blocks are added in order.
#include <cstring>

#include "ops/conv/direct.h"
#include "ops/conv/epilogue.h"

namespace fastcnn::ops {
namespace {

constexpr std::int64_t kStripPixels = 256;    // dy's strip of one block of channels stays in L1
constexpr std::int64_t kBlockRows = 1152;     // taps times input channels of one patch
constexpr double kUnitMacs = 24e6;            // the least work that is worth a unit of its own
constexpr std::int64_t kCheapUnits = 16;      // more of them only where each sums over enough pixels that its
constexpr std::int64_t kGroupPixels = 1024;   // block, written and read once more, is a small part of it
constexpr std::int64_t kSlice = 16;           // input channels of an item that adds up weights
constexpr std::int64_t kBiasChannels = 1024;  // of one that adds up biases

class DirectConvWeights : public Prepared {
 public:
  explicit DirectConvWeights(const Problem& p) : DirectConvWeights(p, facts_of<ConvParams>(p)) {}

  std::string detail() const override {
    const int vectors = out_.vectors(0);
    return str("tile ", k_.tile[vectors], "x", vectors, ", ", item_groups_, " groups of ", grid_.planes(),
               " times ", strips_.text(), ", ", in_.count, " input blocks, ", chunks_, " output chunks",
               grid_.padded ? "" : ", unpacked input");
  }

  void item(const RunArgs& a, int stage, std::int64_t i, const Worker& w) const override {
    float* const acc = acc_.in(a.shared);
    float* const db = db_.in(a.shared);
    if (stage == 1)
      return i < weight_items_ ? reduce_weights(i, acc, floats(a.out[0]))
                               : reduce_bias((i - weight_items_) * kBiasChannels, db, floats(a.out[1]));
    const std::int64_t group = i % item_groups_, block = i / item_groups_;
    unit(a, block / chunks_, part_of(out_.count, chunks_, block % chunks_), group, acc + group * acc_floats_,
         db + group * db_floats_, w.own);
  }

 private:
  DirectConvWeights(const Problem& p, const ConvParams& c)
      : k_(*p.kernels().conv),
        grid_(conv_grid(c, p.inputs[0])),
        kernel_(c.taps()),
        dy_pixel_(pixel_of(p.inputs[1])),
        want_dw_(p.wants(0)),
        want_db_(p.wants(1)) {
    const bool flat = flatten_grid(grid_, kStripPixels);
    in_ = ChannelBlocks(grid_.src_group(), std::clamp<std::int64_t>(kBlockRows / grid_.taps, 64, 512));
    out_ = VectorBlocks(grid_.out_group(), p.kernels());
    const int axis = flat ? 1 : ConvStrips::axis_of(grid_, static_cast<double>(grid_.out[2]) / kStripPixels);
    const std::int64_t wanted = flat ? 1 : axis == 1 ? kStripPixels / grid_.out[2] : kStripPixels;
    strips_ =
        ConvStrips(grid_, axis, grid_.out[axis], std::clamp<std::int64_t>(wanted, 1, grid_.out[axis]), 1);
    input_ = ConvInput(k_, strips_.rows, strips_.cols);
    for (const bool last : {false, true}) {
      const std::int64_t channels = in_.length(last ? in_.count - 1 : 0);
      runs_[last] = runs_of(grid_.phases[0], input_.steps(grid_, channels), channels);
    }
    choose_units(c);
    acc_floats_ = round_up(grid_.groups * part_floats(), 16), db_floats_ = round_up(grid_.out_c, 16);
    acc_ = shared_.add(item_groups_ * acc_floats_), db_ = shared_.add(item_groups_ * db_floats_);
    patch_ = own_.add(input_.patch_floats(grid_, in_.size));
    if (ragged(out_.count - 1)) tail_ = own_.add(strips_.rows * strips_.cols * out_.size);
    if (want_dw_) weight_items_ = grid_.groups * out_.count * in_.count * ceil_div(in_.size, kSlice);
    stages_ = {grid_.groups * chunks_ * item_groups_,
               weight_items_ + (want_db_ ? ceil_div(grid_.out_c, kBiasChannels) : 0)};
  }

  // One group's accumulators, [groups][oc block][ic block][tap][ic][lanes].
  std::int64_t part_floats() const { return grid_.taps * grid_.src_group() * out_.padded(); }
  std::int64_t block_at(std::int64_t g, std::int64_t kb, std::int64_t ib) const {
    return g * part_floats() +
           grid_.taps * (grid_.src_group() * out_.begin(kb) + in_.begin(ib) * out_.lanes(kb));
  }
  // Only the last block of output channels can be narrower than its vectors: dy is then copied with zeros.
  bool ragged(std::int64_t kb) const { return out_.length(kb) % out_.width != 0; }
  std::int64_t strips() const { return grid_.planes() * strips_.of_plane(); }

  // Groups cost memory for their accumulators, chunks read the input again.
  void choose_units(const ConvParams& c) {
    const double macs = c.macs();
    std::int64_t want = 1;
    while (want < kItems && static_cast<double>(want) * kUnitMacs < macs &&
           (want < kCheapUnits || want * kGroupPixels < c.n * c.out_pixels()))
      want *= 2;
    const std::int64_t bytes = grid_.groups * part_floats() * std::int64_t{sizeof(float)};
    const std::int64_t most = groups_of(std::max<std::int64_t>(1, strips()), 1e30, 1, bytes);
    const double weights = static_cast<double>(bytes);
    const double input = 4.0 * static_cast<double>(c.n * c.in_pixels() * c.ic);
    double best = 0;
    for (std::int64_t chunks = 1; chunks <= std::min(out_.count, want); ++chunks) {
      const std::int64_t g = std::min(most, ceil_div(want, chunks * grid_.groups));
      const double lacking =
          static_cast<double>(want) / static_cast<double>(std::min(want, g * chunks * grid_.groups));
      const double cost =
          (3 * static_cast<double>(g) * weights + 2 * static_cast<double>(chunks) * input) * lacking;
      if (best == 0 || cost < best) best = cost, chunks_ = chunks, item_groups_ = g;
    }
  }

  void unit(const RunArgs& a, std::int64_t g, const Part& blocks, std::int64_t group, float* acc, float* db,
            std::byte* own) const {
    const std::int64_t channel = g * grid_.out_group() + out_.begin(blocks.begin);
    const std::int64_t channels = out_.end(blocks.end - 1) - out_.begin(blocks.begin);
    const std::int64_t begin = block_at(g, blocks.begin, 0);
    const std::int64_t end = blocks.end == out_.count ? (g + 1) * part_floats() : block_at(g, blocks.end, 0);
    if (want_dw_) std::memset(acc + begin, 0, static_cast<std::size_t>(end - begin) * sizeof(float));
    if (want_db_) std::memset(db + channel, 0, static_cast<std::size_t>(channels) * sizeof(float));
    const Part mine = part_of(strips(), item_groups_, group);
    for (std::int64_t i = mine.begin; i < mine.end; ++i) {
      const std::int64_t plane = i / strips_.of_plane();
      const ConvStrip s = strips_.strip(grid_, i % strips_.of_plane());
      const float* const dy = floats(a.in[1]) + (grid_.first_pixel(plane, s.row0) + s.col0) * dy_pixel_;
      // Rows are joined, unless they are cut; short only in a flattened grid, whose strips are single rows.
      const std::int64_t rows = s.row1 - s.row0, cols = s.cols(grid_, s.row0);
      if (want_db_) k_.channel_sums(dy + channel, dy_pixel_, rows * cols, channels, db + channel);
      if (want_dw_) multiply(a, plane, g, s, rows, cols, blocks, dy + g * grid_.out_group(), acc, own);
    }
  }

  void multiply(const RunArgs& a, std::int64_t plane, std::int64_t g, const ConvStrip& s, std::int64_t rows,
                std::int64_t cols, const Part& blocks, const float* dy, float* acc, std::byte* own) const {
    float* const tail = tail_.in(own);
    const std::int64_t last = out_.count - 1, dy_row = grid_.out[2] * dy_pixel_;
    if (blocks.end == out_.count && ragged(last))
      k_.patch({dy + out_.begin(last), dy_row, dy_pixel_, rows, cols, 0, 0, rows, cols, out_.length(last),
                tail, out_.lanes(last)});
    for (std::int64_t ib = 0; ib < in_.count; ++ib) {
      const std::int64_t channels = in_.length(ib);
      const ConvSteps steps = input_.steps(grid_, channels);
      const float* const src = input_.at(grid_, floats(a.in[0]), plane, s,
                                         g * grid_.src_group() + in_.begin(ib), channels, patch_.in(own));
      for (std::int64_t kb = blocks.begin; kb < blocks.end; ++kb) {
        const std::int64_t lanes = out_.lanes(kb);
        ConvOuter o{};
        o.x_row = grid_.step[1] * steps.row, o.x_pixel = grid_.step[2] * steps.pixel;
        o.dy = ragged(kb) ? tail : dy + out_.begin(kb);
        o.dy_pixel = ragged(kb) ? lanes : dy_pixel_;
        o.dy_row = ragged(kb) ? cols * lanes : dy_row;
        o.rows = static_cast<int>(rows), o.pixels = static_cast<int>(cols);
        o.dw = acc + block_at(g, kb, ib);
        o.vectors = out_.vectors(kb);
        for (const ConvRun& run : runs_[in_.last(ib)]) {
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
    const std::int64_t lanes = out_.lanes(kb), channels = in_.length(ib);
    if (c0 >= channels) return;
    ConvWeights s{};
    s.oc_stride = grid_.src_group() * kernel_, s.ic_stride = kernel_;
    s.packed_tap = channels * lanes;
    s.taps = grid_.phases[0].indices.data(), s.n_taps = static_cast<int>(grid_.taps);
    s.ic = static_cast<int>(std::min(kSlice, channels - c0)), s.oc = static_cast<int>(out_.length(kb));
    s.vectors = out_.vectors(kb);
    k_.unpack_weights(
        s, acc + block_at(g, kb, ib) + c0 * lanes, acc_floats_, static_cast<int>(item_groups_),
        dw + ((g * grid_.out_group() + out_.begin(kb)) * grid_.src_group() + in_.begin(ib) + c0) * kernel_);
  }

  void reduce_bias(std::int64_t first, const float* partial, float* db) const {
    for (std::int64_t c = first; c < std::min(grid_.out_c, first + kBiasChannels); ++c)
      db[c] = sum_of(partial + c, item_groups_, db_floats_);
  }

  const ConvKernels& k_;
  ConvGrid grid_;
  std::int64_t kernel_, dy_pixel_;
  bool want_dw_, want_db_;
  ChannelBlocks in_;
  VectorBlocks out_;
  ConvStrips strips_;
  ConvInput input_;
  std::int64_t chunks_ = 1, item_groups_ = 1, weight_items_ = 0;
  std::vector<ConvRun> runs_[2];                 // [last input block]
  std::int64_t acc_floats_ = 0, db_floats_ = 0;  // of a group
  Range<float> acc_, db_, patch_, tail_;
};

}  // namespace

std::unique_ptr<Prepared> prepare_direct_backward_weights(const Problem& p) {
  return prepare<DirectConvWeights>(p);
}

}  // namespace fastcnn::ops

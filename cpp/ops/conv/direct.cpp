// Direct convolution, forward and backward data: implicit GEMM over NHWC. An item is a strip of an output
// plane times some blocks of output channels; it cuts a padded patch of the input for each block of input
// channels, runs the register tiles over it, and finishes the strip (residual, function, statistics, pooling)
// while it is in cache. See docs/kernels.md for the packed weights.
#include "ops/conv/direct.h"

#include "kernels/layout.h"
#include "ops/conv/epilogue.h"

namespace fastcnn::ops {
namespace {

constexpr std::int64_t kStripFloats = 48 * 1024;  // patch and output strip together: a share of L2
constexpr std::int64_t kBlockRows = 1152;  // taps times input channels of a patch: its weights are in L2 too
constexpr double kSplitMacs = 2.5e5;       // the least work that is worth splitting for: about 6 us

class DirectConv : public Prepared {
 public:
  DirectConv(const Problem& p, const ConvParams& c, ConvGrid grid, bool transposed)
      : k_(*p.kernels().conv),
        layout_(*p.kernels().layout),
        grid_(std::move(grid)),
        transposed_(transposed),
        bias_(own_input(p, 2)),
        finisher_(p),
        w_in_(c.gic()),
        kernel_(c.taps()) {
    if (const PostOp* pool = find(p.after, PostKind::kPool)) {
      pool_ = pool->pool, pooled_ = true, unpooled_ = pool->out;
      if (unpooled_ >= 0) unpooled_pixel_ = pixel_of(p.outputs[static_cast<std::size_t>(unpooled_)]);
      for (int d = 1; d < 3; ++d) pooled_size_[d] = (grid_.out[d] - pool_.kernel[d]) / pool_.stride[d] + 1;
    }
    const bool whole_rows = pooled_ || flatten_grid(grid_, k_.tile[2] * 8);
    out_pixel_ = pixel_of(p.outputs[0]);
    in_ = ChannelBlocks(grid_.src_group(), std::clamp<std::int64_t>(
                                               kBlockRows / std::max<std::int64_t>(grid_.taps, 1), 64, 1024));
    out_ = VectorBlocks(grid_.out_group(), p.kernels());
    choose_strips(c.macs(), whole_rows);
    input_ = ConvInput(k_, most_rows(), strips_.cols);
    for (const bool last : {false, true}) {
      const std::int64_t channels = in_.length(last ? in_.count - 1 : 0);
      for (const ConvPhase& f : grid_.phases)
        runs_[last].push_back(runs_of(f, input_.steps(grid_, channels), channels));
    }
    const std::int64_t strips = grid_.planes() * strips_.of_plane();
    stages_ = {grid_.groups * chunks_ * strips};
    moments_ = PartialMoments(p, strips, grid_.out_c, stages_,
                              [&](std::int64_t i) { return pixels_in(strip(i % strips_.of_plane())); });
    parts_ = shared_.add(moments_.floats());
    patch_ = own_.add(input_.patch_floats(grid_, in_.size));
    if (pooled_) rows_ = own_.add(most_rows() * grid_.out[2] * chunk_channels());
  }

  std::size_t packed_bytes() const override {
    return static_cast<std::size_t>(grid_.groups * group_floats()) * sizeof(float);
  }
  std::string detail() const override {
    const int vectors = out_.vectors(0);
    return str("tile ", k_.tile[vectors], "x", vectors, ", ", strips_.text(), ", ", in_.count,
               " input blocks, ", chunks_, " output chunks", grid_.padded ? "" : ", unpacked input");
  }

  std::int64_t pack_items() const override { return grid_.groups * out_.count * in_.count; }
  void pack(const void* const* in, std::byte* packed, std::int64_t i) const override {
    const std::int64_t ib = i % in_.count, kb = i / in_.count % out_.count, g = i / in_.count / out_.count;
    const std::ptrdiff_t per_oc = w_in_ * kernel_;
    ConvWeights s{};
    s.oc_stride = transposed_ ? kernel_ : per_oc;
    s.ic_stride = transposed_ ? per_oc : kernel_;
    s.ic = static_cast<int>(in_.length(ib)), s.oc = static_cast<int>(out_.length(kb));
    s.vectors = out_.vectors(kb);
    s.packed_tap = s.ic * out_.lanes(kb);
    // w is [oc][ic / groups]: the group's slice lies along oc whichever role oc plays.
    const std::int64_t first_oc = g * (transposed_ ? grid_.src_group() : grid_.out_group());
    const float* from =
        floats(in[1]) + first_oc * per_oc + out_.begin(kb) * s.oc_stride + in_.begin(ib) * s.ic_stride;
    for (const ConvPhase& f : grid_.phases) {
      s.taps = f.indices.data(), s.n_taps = static_cast<int>(f.indices.size());
      k_.pack_weights(s, from, reinterpret_cast<float*>(packed) + weights_at(g, kb, f, ib));
    }
  }

  void item(const RunArgs& a, int stage, std::int64_t i, const Worker& w) const override {
    float* const parts = parts_.in(a.shared);
    if (stage == 1) return moments_.merge(parts, a, i);
    const std::int64_t s = i % strips_.of_plane(), plane = i / strips_.of_plane() % grid_.planes();
    const std::int64_t block = i / strips_.of_plane() / grid_.planes(), g = block / chunks_;
    const Part blocks = part_of(out_.count, chunks_, block % chunks_);
    const std::int64_t c0 = out_.begin(blocks.begin), c = out_.end(blocks.end - 1) - c0;
    const std::int64_t channel = g * grid_.out_group() + c0;
    const Strip rows = strip(s);
    Output out{};
    out.pixel = pooled_ ? c : out_pixel_;
    out.row = grid_.out[2] * out.pixel;
    out.at =
        pooled_ ? rows_.in(w.own)
                : floats(a.out[0]) + (grid_.first_pixel(plane, rows.row0) + rows.col0) * out_pixel_ + channel;
    for (std::int64_t ib = 0; ib < in_.count; ++ib)
      multiply(a, plane, g, rows, blocks, ib, out, patch_.in(w.own));
    float* const shift = moments_ ? moments_.part(parts, plane * strips_.of_plane() + s) + channel : nullptr;
    for (std::int64_t row = rows.row0; row < rows.row1; ++row) {
      float* const y = out.at + (row - rows.row0) * out.row;
      const std::int64_t pixels = rows.cols(grid_, row);
      finisher_.run(a, y, out.pixel, grid_.first_pixel(plane, row) + rows.col0, pixels, channel, c,
                    row < rows.owned_end);
      if (shift)
        k_.moments(y, out.pixel, pixels, c, row == rows.row0, shift, shift + grid_.out_c,
                   shift + 2 * grid_.out_c);
    }
    if (pooled_) pool(a, plane, rows, channel, c, out);
  }

 private:
  struct Strip : ConvStrip {
    std::int64_t owned_end;                 // what is kept of rows [row0, owned_end) is this strip's to write
    std::int64_t pooled_begin, pooled_end;  // rows of the pooled output
  };
  struct Output {  // where a strip's rows go
    float* at;     // first pixel, first channel
    std::ptrdiff_t row, pixel;
  };

  std::int64_t group_floats() const { return grid_.taps * grid_.src_group() * out_.padded(); }
  // [group][oc block][phase][ic block][tap][ic][lanes]
  std::int64_t weights_at(std::int64_t g, std::int64_t kb, const ConvPhase& f, std::int64_t ib) const {
    return g * group_floats() + grid_.taps * grid_.src_group() * out_.begin(kb) +
           (f.taps_before * grid_.src_group() + static_cast<std::int64_t>(f.taps.size()) * in_.begin(ib)) *
               out_.lanes(kb);
  }
  std::int64_t chunk_channels() const {
    return std::min(grid_.out_group(), ceil_div(out_.count, chunks_) * out_.size);
  }
  // Computed by one item, at most: pooling windows reach into the next strip.
  std::int64_t most_rows() const {
    return std::min(grid_.out[1], strips_.rows + (pooled_ ? pool_.kernel[1] - 1 : 0));
  }

  // Strips begin at multiples of `unit`: whole phases, whole pooling windows, whole tiles of columns.
  void choose_strips(double macs, bool whole_rows) {
    const auto source = [&](std::int64_t line) { return grid_.patch[0] * in_.size * line; };
    const std::int64_t per_row = grid_.out[2] * grid_.out_group() +
                                 source(grid_.reach(2, grid_.out[2])) * grid_.step[1] / grid_.phase[1] + 1;
    const std::int64_t per_col = grid_.phase[1] * grid_.out_group() +
                                 source(grid_.reach(1, grid_.phase[1])) * grid_.step[2] / grid_.phase[2] + 1;
    const int axis = whole_rows
                         ? 1
                         : ConvStrips::axis_of(grid_, static_cast<double>(per_row) *
                                                          static_cast<double>(grid_.phase[1]) / kStripFloats);
    const std::int64_t unit = pooled_     ? pool_.stride[1]
                              : axis == 1 ? grid_.phase[1]
                                          : grid_.phase[2] * k_.tile[2];
    const std::int64_t length = pooled_ ? pooled_size_[1] * unit : grid_.out[axis];
    const std::int64_t per = axis == 1 ? per_row : per_col;
    const std::int64_t wanted = std::clamp(kStripFloats / per / unit * unit, unit, round_up(length, unit));
    strips_ = ConvStrips(grid_, axis, length, split_further(axis, length, wanted, unit, macs), unit);
  }

  // Few items: cut strips (each reads the weights again) or output channels (each chunk reads the image
  // again), whichever moves less.
  std::int64_t split_further(int axis, std::int64_t length, std::int64_t wanted, std::int64_t unit,
                             double macs) {
    const std::int64_t lines = axis == 1 ? 1 : ceil_div(grid_.out[1], grid_.phase[1]);
    const std::int64_t have = std::max<std::int64_t>(1, grid_.planes()) * grid_.groups * lines;
    const std::int64_t enough = groups_of(kItems, macs, kSplitMacs, 1);
    if (have * ceil_div(length, wanted) >= enough) return wanted;
    const double weights = static_cast<double>(group_floats());
    const double image = static_cast<double>(grid_.src[0] * grid_.src[1] * grid_.src[2] * grid_.src_group());
    double best = 0;
    std::int64_t best_size = wanted;
    for (std::int64_t s = ceil_div(length, wanted); s <= std::min(ceil_div(length, unit), kItems); ++s) {
      const std::int64_t size = round_up(ceil_div(length, s), unit), strips = have * ceil_div(length, size);
      const std::int64_t chunks = std::min(out_.count, ceil_div(enough, strips));
      const double reach = static_cast<double>(grid_.reach(axis, size));
      const double halo = reach / (reach - static_cast<double>(grid_.patch[axis]) + 1);
      const double lacking =
          static_cast<double>(enough) / static_cast<double>(std::min(enough, strips * chunks));
      const double moved =
          (weights * static_cast<double>(s) + image * static_cast<double>(chunks) * halo) * lacking;
      if (best == 0 || moved < best) best = moved, best_size = size, chunks_ = chunks;
    }
    return best_size;
  }

  Strip strip(std::int64_t i) const {
    Strip s{strips_.strip(grid_, i), 0, 0, 0};
    if (pooled_) {
      s.pooled_begin = s.row0 / pool_.stride[1];
      s.pooled_end = std::min(pooled_size_[1], (s.row0 + strips_.size) / pool_.stride[1]);
      const std::int64_t covered = (s.pooled_end - 1) * pool_.stride[1] + pool_.kernel[1];
      if (unpooled_ < 0 && !finisher_.keeps()) {
        s.owned_end = s.row1 = covered;
        return s;
      }
      if (i + 1 == strips_.count) s.row1 = grid_.out[1];  // rows that no window covers
      s.owned_end = s.row1;
      s.row1 = std::max(s.row1, covered);
    } else {
      s.owned_end = s.row1;
    }
    return s;
  }
  std::int64_t pixels_in(const ConvStrip& s) const {
    std::int64_t n = 0;
    for (std::int64_t row = s.row0; row < s.row1; ++row) n += s.cols(grid_, row);
    return n;
  }

  void multiply(const RunArgs& a, std::int64_t plane, std::int64_t g, const Strip& rows, const Part& blocks,
                std::int64_t ib, const Output& out, float* patch) const {
    const std::int64_t channels = in_.length(ib), c0 = out_.begin(blocks.begin);
    const ConvSteps steps = input_.steps(grid_, channels);
    const float* const src = input_.at(grid_, floats(a.in[0]), plane, rows,
                                       g * grid_.src_group() + in_.begin(ib), channels, patch);
    const float* const bias = floats(a.in, ib == 0 ? bias_ : -1);
    const auto* packed = reinterpret_cast<const float*>(a.packed);
    const Part phases = grid_.phases_of(plane);
    ConvRow r{};
    r.in_pixel = grid_.step[2] * steps.pixel;
    r.out_pixel = grid_.phase[2] * out.pixel;
    r.accumulate = ib > 0;
    for (std::int64_t kb = blocks.begin; kb < blocks.end; ++kb)
      for (auto f = static_cast<std::size_t>(phases.begin); f < static_cast<std::size_t>(phases.end); ++f) {
        const ConvPhase& phase = grid_.phases[f];
        const auto& runs = runs_[in_.last(ib)][f];
        r.runs = runs.data(), r.n_runs = static_cast<int>(runs.size());
        r.w = packed + weights_at(g, kb, phase, ib);
        r.bias = bias ? bias + g * grid_.out_group() + out_.begin(kb) : nullptr;
        r.vectors = out_.vectors(kb), r.oc = static_cast<int>(out_.length(kb));
        r.in = src;
        for (std::int64_t row = rows.row0 + phase.first[1]; row < rows.row1; row += grid_.phase[1]) {
          r.out = out.at + (row - rows.row0) * out.row + phase.first[2] * out.pixel + out_.begin(kb) - c0;
          r.pixels = static_cast<int>(ceil_div(rows.cols(grid_, row) - phase.first[2], grid_.phase[2]));
          k_.row(r);
          r.in += grid_.step[1] * steps.row;
        }
      }
  }

  void pool(const RunArgs& a, std::int64_t plane, const Strip& rows, std::int64_t channel, std::int64_t c,
            const Output& out) const {
    if (unpooled_ >= 0)
      layout_.copy_rows(
          out.at, out.pixel,
          floats(a.out[unpooled_]) + grid_.first_pixel(plane, rows.row0) * unpooled_pixel_ + channel,
          unpooled_pixel_, (rows.owned_end - rows.row0) * grid_.out[2], c);
    for (std::int64_t row = rows.pooled_begin; row < rows.pooled_end; ++row)
      k_.pool({out.at + (row * pool_.stride[1] - rows.row0) * out.row, out.row, out.pixel, pool_.kernel[1],
               pool_.kernel[2], pool_.stride[2], pooled_size_[2], c,
               floats(a.out[0]) + (plane * pooled_size_[1] + row) * pooled_size_[2] * out_pixel_ + channel,
               out_pixel_, pool_.average});
  }

  const ConvKernels& k_;
  const LayoutKernels& layout_;
  ConvGrid grid_;
  bool transposed_;
  int bias_;
  ConvFinisher finisher_;
  std::int64_t w_in_, kernel_;  // w is [oc][w_in][kernel]
  bool pooled_ = false;
  PoolSpec pool_;
  std::int64_t pooled_size_[3] = {1, 1, 1};
  int unpooled_ = -1;
  std::int64_t out_pixel_ = 0, unpooled_pixel_ = 0;
  ChannelBlocks in_;
  VectorBlocks out_;
  ConvStrips strips_;
  std::int64_t chunks_ = 1;
  ConvInput input_;
  std::vector<std::vector<ConvRun>> runs_[2];  // [last input block][phase]
  PartialMoments moments_;
  Range<float> parts_, patch_, rows_;
};

std::string forward_declines(const Problem& p) {
  const PostOp* pool = find(p.after, PostKind::kPool);
  return first_of(
      unless_in(p, Layout::kNHWC), unless_epilogue(p, {PostKind::kAdd, PostKind::kFunction, PostKind::kPool}),
      pool && (pool->pool.kernel[0] != 1 || pool->pool.stride[0] != 1) ? "does not pool over depth" : "");
}
std::string backward_data_declines(const Problem& p) {
  return first_of(unless_in(p, Layout::kNHWC), unless_epilogue(p, {PostKind::kAdd, PostKind::kFunction}));
}
template <bool kTransposed>
std::unique_ptr<Prepared> prepare_direct(const Problem& p) {
  const auto& c = facts_of<ConvParams>(p);
  return std::make_unique<DirectConv>(p, c, conv_grid(c, p.inputs[0], kTransposed), kTransposed);
}

}  // namespace

const Impl kConvDirect[3] = {{"direct", forward_declines, prepare_direct<false>},
                             {"direct", backward_data_declines, prepare_direct<true>},
                             {"direct", unless_plain_in<Layout::kNHWC>, prepare_direct_backward_weights}};

}  // namespace fastcnn::ops

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
constexpr double kSplitMacs = 2.5e5;              // the least work that is worth splitting for: about 6 us

class DirectConv : public StripOutputs {
 public:
  DirectConv(const Problem& p, bool transposed)
      : StripOutputs(p, transposed), layout_(*p.kernels().layout), transposed_(transposed) {
    if (const PostOp* pool = find(p.after, PostKind::kPool)) {
      pool_ = pool->pool, pooled_ = true, unpooled_ = pool->out;
      if (unpooled_ >= 0) unpooled_pixel_ = pixel_of(p.outputs[static_cast<std::size_t>(unpooled_)]);
      for (int d = 1; d < 3; ++d) pooled_size_[d] = (grid_.out[d] - pool_.kernel[d]) / pool_.stride[d] + 1;
    }
    const bool whole_rows = pooled_ || flatten_grid(grid_, k_.tile[2] * 8);
    in_ = ChannelBlocks(grid_.src_group(), std::clamp<std::int64_t>(
                                               kBlockRows / std::max<std::int64_t>(grid_.taps, 1), 64, 1024));
    weights_.out = VectorBlocks(grid_.out_group(), p.kernels());
    choose_strips(whole_rows);
    set_stages(p, grid_.groups * chunks_ * strips());
    const std::int64_t chunk = std::min(out_.c, ceil_div(out_.count, chunks_) * out_.size);
    if (pooled_) own_rows_ = own_.add(rows_ * grid_.out[2] * chunk);
  }

  std::size_t packed_bytes() const override {
    return static_cast<std::size_t>(grid_.groups * weights_.group_floats()) * sizeof(float);
  }
  std::string detail() const override { return weights_.text(k_, text(), chunks_); }

  std::int64_t pack_items() const override { return grid_.groups * out_.count * in_.count; }
  void pack(const void* const* in, std::byte* packed, std::int64_t i) const override {
    const std::int64_t ib = i % in_.count, kb = i / in_.count % out_.count, g = i / in_.count / out_.count;
    std::int64_t from;
    ConvWeights s = weights_.block(c_, transposed_, g, kb, ib, &from);
    for (const ConvPhase& f : grid_.phases) {
      s.taps = f.indices.data(), s.n_taps = static_cast<int>(f.indices.size());
      k_.pack_weights(s, floats(in[1]) + from, floats(packed) + weights_.at(g, kb, f, ib));
    }
  }

  void item(const RunArgs& a, int stage, std::int64_t i, const Worker& w) const override {
    if (stage == 1) return moments_.merge(a, i);
    const std::int64_t block = i / strips(), g = block / chunks_;
    const Part blocks = part_of(out_.count, chunks_, block % chunks_);
    const std::int64_t c0 = out_.begin(blocks.begin), c = out_.end(blocks.end - 1) - c0;
    const std::int64_t channel = g * out_.c + c0;
    const Strip s = pooling_strip(i % strips());
    ConvOutput out{};
    out.pixel = pooled_ ? c : out_pixel_;
    out.row = grid_.out[2] * out.pixel;
    out.at = pooled_ ? own_rows_.in(w.own) : floats(a.out[0]) + first_pixel(s) * out_pixel_ + channel;
    for (std::int64_t ib = 0; ib < in_.count; ++ib) multiply(a, w, g, s, blocks, ib, out);
    finish(a, i % strips(), s, out, channel, c, s.owned_end);
    if (pooled_) pool(a, s, channel, c, out);
  }

 private:
  struct Strip : ConvStrip {
    std::int64_t owned_end;                 // what is kept of rows [row0, owned_end) is this strip's to write
    std::int64_t pooled_begin, pooled_end;  // rows of the pooled output
  };

  // Strips begin at multiples of `unit`: whole phases, whole pooling windows, whole tiles of columns.
  void choose_strips(bool whole_rows) {
    const std::int64_t per_row = floats_along(1, out_.c);
    const double lines = static_cast<double>(per_row) * static_cast<double>(grid_.phase[1]);
    const int axis = whole_rows ? 1 : axis_of(lines / kStripFloats);
    const std::int64_t unit = pooled_     ? pool_.stride[1]
                              : axis == 1 ? grid_.phase[1]
                                          : grid_.phase[2] * k_.tile[2];
    const std::int64_t length = pooled_ ? pooled_size_[1] * unit : grid_.out[axis];
    const std::int64_t per = floats_along(axis, out_.c);
    const std::int64_t wanted = std::clamp(kStripFloats / per / unit * unit, unit, round_up(length, unit));
    // Pooling windows reach into the next strip.
    cut(axis, length, split_further(axis, length, wanted, unit), unit, pooled_ ? pool_.kernel[1] - 1 : 0);
  }

  // Few items: cut strips (each reads the weights again) or output channels (each chunk reads the image
  // again), whichever moves less.
  std::int64_t split_further(int axis, std::int64_t length, std::int64_t wanted, std::int64_t unit) {
    const std::int64_t lines = axis == 1 ? 1 : ceil_div(grid_.out[1], grid_.phase[1]);
    const std::int64_t have = std::max<std::int64_t>(1, grid_.planes()) * grid_.groups * lines;
    const std::int64_t enough = groups_of(items_for(2 * c_.macs()), c_.macs(), kSplitMacs, 1);
    if (have * ceil_div(length, wanted) >= enough) return wanted;
    const double weights = static_cast<double>(weights_.group_floats());
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

  Strip pooling_strip(std::int64_t i) const {
    Strip s{strip(i), 0, 0, 0};
    s.owned_end = s.row1;
    if (!pooled_) return s;
    s.pooled_begin = s.row0 / pool_.stride[1];
    s.pooled_end = std::min(pooled_size_[1], (s.row0 + size_) / pool_.stride[1]);
    const std::int64_t covered = (s.pooled_end - 1) * pool_.stride[1] + pool_.kernel[1];
    if (unpooled_ < 0 && kept_ < 0) {
      s.owned_end = s.row1 = covered;
    } else {
      if (i % count_ + 1 == count_) s.row1 = grid_.out[1];  // rows that no window covers
      s.owned_end = s.row1;
      s.row1 = std::max(s.row1, covered);
    }
    return s;
  }

  void multiply(const RunArgs& a, const Worker& w, std::int64_t g, const Strip& s, const Part& blocks,
                std::int64_t ib, const ConvOutput& out) const {
    const float* const bias = floats(a.in, ib == 0 ? bias_ : -1);
    const Part phases = grid_.phases_of(s.plane);
    ConvRow r{};
    r.in = source(a, w, s, g * in_.c, ib);
    r.accumulate = ib > 0;
    for (std::int64_t kb = blocks.begin; kb < blocks.end; ++kb)
      for (auto f = static_cast<std::size_t>(phases.begin); f < static_cast<std::size_t>(phases.end); ++f) {
        const ConvPhase& phase = grid_.phases[f];
        const std::vector<ConvRun>& runs = phase.runs[in_.last(ib)];
        r.runs = runs.data(), r.n_runs = static_cast<int>(runs.size());
        r.w = floats(a.packed) + weights_.at(g, kb, phase, ib);
        r.bias = bias ? bias + g * out_.c + out_.begin(kb) : nullptr;
        r.vectors = out_.vectors(kb), r.oc = static_cast<int>(out_.length(kb));
        r.out = out.at + out_.begin(kb) - out_.begin(blocks.begin);
        run_rows(r, phase, s, steps(ib), out, k_.row);
      }
  }

  void pool(const RunArgs& a, const Strip& s, std::int64_t channel, std::int64_t c,
            const ConvOutput& out) const {
    if (unpooled_ >= 0)
      layout_.copy_rows(
          out.at, out.pixel,
          floats(a.out[unpooled_]) + grid_.first_pixel(s.plane, s.row0) * unpooled_pixel_ + channel,
          unpooled_pixel_, (s.owned_end - s.row0) * grid_.out[2], c);
    for (std::int64_t row = s.pooled_begin; row < s.pooled_end; ++row)
      k_.pool({out.at + (row * pool_.stride[1] - s.row0) * out.row, out.row, out.pixel, pool_.kernel[1],
               pool_.kernel[2], pool_.stride[2], pooled_size_[2], c,
               floats(a.out[0]) + (s.plane * pooled_size_[1] + row) * pooled_size_[2] * out_pixel_ + channel,
               out_pixel_, pool_.average});
  }

  const LayoutKernels& layout_;
  bool transposed_, pooled_ = false;
  PoolSpec pool_;
  std::int64_t pooled_size_[3] = {1, 1, 1};
  int unpooled_ = -1;
  std::int64_t unpooled_pixel_ = 0;
  std::int64_t chunks_ = 1;
  PackedWeights weights_{grid_, in_, {}};
  const VectorBlocks& out_ = weights_.out;
  Range<float> own_rows_;
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
}  // namespace

const Impl kConvDirect[3] = {{"direct", forward_declines, prepare_conv<DirectConv, false>},
                             {"direct", backward_data_declines, prepare_conv<DirectConv, true>},
                             {"direct", unless_plain_in<Layout::kNHWC>, prepare_direct_backward_weights}};

}  // namespace fastcnn::ops

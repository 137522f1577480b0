// Direct convolution, forward and backward data: implicit GEMM over NHWC. An item is a strip of output rows
// of one image times some blocks of output channels; it cuts a padded patch of the input for each block of
// input channels, runs the register tiles over it, and finishes the strip (residual, activation, statistics,
// pooling) while it is in cache. Items are fixed by the problem. See docs/kernels.md for the packed weights.
#include "ops/conv/direct.h"

#include <algorithm>

#include "core/parallel.h"
#include "ops/block.h"
#include "ops/conv/epilogue.h"
#include "ops/pieces.h"

namespace fastcnn::ops {
namespace {

constexpr std::int64_t kStripFloats = 48 * 1024;  // patch and output strip together: a share of L2
constexpr std::int64_t kBlockRows =
    1152;  // taps times input channels of one patch: its weights are in L2 too
constexpr std::int64_t kEnoughItems = 16;

class DirectConv : public Prepared {
 public:
  DirectConv(const Problem& p, ConvGrid grid, bool transposed)
      : kernels_(*kernels().conv),
        grid_(std::move(grid)),
        transposed_(transposed),
        operands_(conv_operands(p)),
        fusion_(p.fusion),
        threads_(num_threads()) {
    const Shape& w = p.inputs[1].shape;
    w_in_ = w[1], kernel_ = w[2] * w[3];
    if (!pooled()) flatten_grid(grid_, kernels_.tile[2] * 8);
    in_ = ChannelBlocks(grid_.src_group(), std::clamp<std::int64_t>(kBlockRows / grid_.taps, 64, 1024));
    out_ = VectorBlocks(grid_.out_group());
    choose_strips();
    make_runs();
    if (fusion_.statistics) {
      std::vector<std::int64_t> pixels;
      for (std::int64_t i = 0; i < grid_.n * strips_; ++i) pixels.push_back(pixels_in(strip(i % strips_)));
      moments_ = PartialMoments(std::move(pixels), grid_.out_c, fusion_);
    }
  }

  std::size_t packed_bytes() const override {
    return static_cast<std::size_t>(grid_.groups * group_floats()) * sizeof(float);
  }
  std::size_t scratch_bytes() const override {
    return align64(moments_.bytes()) + static_cast<std::size_t>(threads_) * thread_bytes();
  }
  std::string detail() const override {
    const int vectors = out_.vectors(0);
    return str("tile ", kernels_.tile[vectors], "x", vectors, ", ", strips_, " strips of ", strip_, " rows, ",
               in_.count, " input blocks, ", chunks_, " output chunks",
               grid_.padded ? "" : ", unpacked input");
  }

  void pack(const void* const* in, std::byte* packed) const override {
    const auto* w = static_cast<const float*>(in[1]);
    auto* to = reinterpret_cast<float*>(packed);
    parallel_for(grid_.groups * out_.count * in_.count, [&](std::int64_t i, int) {
      const std::int64_t ib = i % in_.count, kb = i / in_.count % out_.count, g = i / in_.count / out_.count;
      for (const ConvPhase& f : grid_.phases) {
        if (f.taps.empty()) continue;
        ConvWeights s{};
        const std::ptrdiff_t per_oc = w_in_ * kernel_;
        s.oc_stride = transposed_ ? kernel_ : per_oc;
        s.ic_stride = transposed_ ? per_oc : kernel_;
        s.taps = f.indices.data(), s.n_taps = static_cast<int>(f.indices.size());
        s.ic = static_cast<int>(in_.length(ib)), s.oc = static_cast<int>(out_.length(kb));
        s.vectors = out_.vectors(kb);
        s.packed_tap = s.ic * s.vectors * out_.width;
        // w is [oc][ic / groups]: the group's slice lies along oc whichever role oc plays.
        const std::int64_t first_oc = g * (transposed_ ? grid_.src_group() : grid_.out_group());
        const float* from =
            w + first_oc * per_oc + out_.begin(kb) * s.oc_stride + in_.begin(ib) * s.ic_stride;
        kernels_.pack_weights(s, from, to + weights_at(g, kb, f, ib));
      }
    });
  }

  void run(const RunArgs& a) const override {
    auto* parts = reinterpret_cast<float*>(a.scratch);
    std::byte* buffers = a.scratch + align64(moments_.bytes());
    parallel_for(grid_.groups * chunks_ * grid_.n * strips_, [&](std::int64_t i, int thread) {
      item(a, i, parts,
           reinterpret_cast<float*>(buffers + static_cast<std::size_t>(thread) * thread_bytes()));
    });
    if (fusion_.statistics) moments_.merge(parts, a, operands_);
  }

 private:
  struct Strip {
    std::int64_t begin, end;                // output rows that are computed
    std::int64_t pooled_begin, pooled_end;  // rows of the pooled output
    std::int64_t owned_end;                 // rows [begin, owned_end) of the unpooled output are this strip's
  };
  struct Output {  // where a strip's rows go
    float* row0;   // output row `begin`, first channel of the group
    std::ptrdiff_t row, pixel;
  };

  bool pooled() const { return fusion_.pool.kind != PoolSpec::kNone; }
  std::int64_t group_floats() const { return grid_.taps * grid_.src_group() * out_.padded(); }
  std::int64_t weights_at(std::int64_t g, std::int64_t kb, const ConvPhase& f, std::int64_t ib) const {
    const std::int64_t lanes = out_.vectors(kb) * out_.width;
    return g * group_floats() + grid_.taps * grid_.src_group() * out_.begin(kb) +
           f.taps_before * grid_.src_group() * lanes +
           static_cast<std::int64_t>(f.taps.size()) * in_.begin(ib) * lanes;
  }

  std::int64_t patch_cols() const {
    return (ceil_div(grid_.out_w, grid_.phase_w) - 1) * grid_.step_w + grid_.patch_w;
  }
  std::int64_t patch_rows(std::int64_t rows) const {
    return (ceil_div(rows, grid_.phase_h) - 1) * grid_.step_h + grid_.patch_h;
  }
  std::int64_t chunk_channels() const {
    return std::min(grid_.out_group(), ceil_div(out_.count, chunks_) * out_.size);
  }
  std::int64_t strip_rows() const {
    return std::min(grid_.out_h, strip_ + halo_);
  }  // computed by one item, at most
  std::size_t patch_floats() const {
    return grid_.padded ? static_cast<std::size_t>(patch_rows(strip_rows()) * patch_cols() * in_.size) : 0;
  }
  std::size_t pooled_floats() const {
    return pooled() ? static_cast<std::size_t>(strip_rows() * grid_.out_w * chunk_channels()) : 0;
  }
  std::size_t thread_bytes() const {
    return align64(patch_floats() * sizeof(float)) + align64(pooled_floats() * sizeof(float));
  }

  // Strips begin at multiples of `unit` rows: whole phases, whole pooling windows.
  void choose_strips() {
    const PoolSpec& pool = fusion_.pool;
    const std::int64_t unit = pooled() ? pool.stride[0] : grid_.phase_h;
    halo_ = pooled() ? pool.kernel[0] - 1 : 0;
    if (pooled()) {
      pooled_h_ = (grid_.out_h - pool.kernel[0]) / pool.stride[0] + 1;
      pooled_w_ = (grid_.out_w - pool.kernel[1]) / pool.stride[1] + 1;
    }
    const std::int64_t rows = pooled() ? pooled_h_ * unit : grid_.out_h;
    const std::int64_t per_row =
        grid_.out_w * grid_.out_group() + patch_cols() * in_.size * grid_.step_h / grid_.phase_h + 1;
    strip_ = std::clamp(kStripFloats / per_row / unit * unit, unit, round_up(rows, unit));
    chunks_ = 1;
    split_further(rows, unit);
    strips_ = std::max<std::int64_t>(1, ceil_div(rows, strip_));
    strip_ = round_up(ceil_div(rows, strips_), unit);
    strips_ = std::max<std::int64_t>(1, ceil_div(rows, strip_));
  }

  // Few items: cut rows (each strip reads the weights again) or output channels (each chunk reads the image
  // again), whichever moves less.
  void split_further(std::int64_t rows, std::int64_t unit) {
    const std::int64_t have = std::max<std::int64_t>(1, grid_.n) * grid_.groups;
    if (have * ceil_div(rows, strip_) >= kEnoughItems) return;
    const double weights = static_cast<double>(group_floats());
    const double image = static_cast<double>(grid_.src_h * grid_.src_w * grid_.src_group());
    double best = 0;
    std::int64_t best_strip = strip_, best_chunks = 1;
    for (std::int64_t s = ceil_div(rows, strip_); s <= ceil_div(rows, unit); ++s) {
      const std::int64_t h = round_up(ceil_div(rows, s), unit);
      const std::int64_t c = std::min(out_.count, ceil_div(kEnoughItems, have * ceil_div(rows, h)));
      const double halo =
          static_cast<double>(patch_rows(h)) / static_cast<double>(patch_rows(h) - grid_.patch_h + 1);
      const double moved = weights * static_cast<double>(s) + image * static_cast<double>(c) * halo;
      const bool enough = have * ceil_div(rows, h) * c >= kEnoughItems;
      const double penalised = enough ? moved : moved * 8;
      if (best == 0 || penalised < best) best = penalised, best_strip = h, best_chunks = c;
    }
    strip_ = best_strip, chunks_ = best_chunks;
  }

  Strip strip(std::int64_t s) const {
    const std::int64_t begin = s * strip_;
    if (!pooled()) return {begin, std::min(grid_.out_h, begin + strip_), 0, 0, 0};
    const PoolSpec& pool = fusion_.pool;
    Strip r{};
    r.begin = begin;
    r.pooled_begin = begin / pool.stride[0];
    r.pooled_end = std::min(pooled_h_, (begin + strip_) / pool.stride[0]);
    r.end = (r.pooled_end - 1) * pool.stride[0] + pool.kernel[0];
    r.owned_end = std::min(grid_.out_h, begin + strip_);
    if (s + 1 == strips_) r.owned_end = grid_.out_h;
    if (operands_.unpooled >= 0) r.end = std::max(r.end, r.owned_end);  // rows that no window covers
    return r;
  }
  std::int64_t pixels_in(const Strip& s) const {
    std::int64_t n = 0;
    for (std::int64_t r = s.begin; r < s.end; ++r) n += grid_.cols(r);
    return n;
  }

  void make_runs() {
    const std::int64_t pixel_full = grid_.src_c, row_full = grid_.src_w * grid_.src_c;
    for (int last = 0; last < 2; ++last) {
      const std::int64_t c = in_.length(last ? in_.count - 1 : 0);
      const std::int64_t pixel = grid_.padded ? c : pixel_full,
                         row = grid_.padded ? patch_cols() * c : row_full;
      for (const ConvPhase& f : grid_.phases) runs_[last].push_back(runs_of(f, row, pixel, c));
    }
  }

  void item(const RunArgs& a, std::int64_t index, float* parts, float* buffer) const {
    const std::int64_t s = index % strips_, n = index / strips_ % grid_.n, block = index / strips_ / grid_.n;
    const std::int64_t chunk = block % chunks_, g = block / chunks_;
    const std::int64_t kb0 = out_.count * chunk / chunks_, kb1 = out_.count * (chunk + 1) / chunks_;
    if (kb0 == kb1) return;
    const Strip rows = strip(s);
    const std::int64_t c0 = out_.begin(kb0), c1 = out_.begin(kb1 - 1) + out_.length(kb1 - 1);
    const std::int64_t out_pixel = grid_.out_c, out_row = grid_.out_w * out_pixel;
    Output out{};
    if (pooled()) {
      out.pixel = c1 - c0, out.row = grid_.out_w * out.pixel;
      out.row0 = buffer + align64(patch_floats() * sizeof(float)) / sizeof(float) - c0;
    } else {
      out.pixel = out_pixel, out.row = out_row;
      out.row0 =
          static_cast<float*>(a.out[0]) + (n * grid_.out_h + rows.begin) * out_row + g * grid_.out_group();
    }
    for (std::int64_t ib = 0; ib < in_.count; ++ib) multiply(a, n, g, rows, kb0, kb1, ib, out, buffer);
    finish(a, n, g, rows, c0, c1, out);
    if (fusion_.statistics) collect(rows, g, c0, c1, out, moments_.part(parts, n * strips_ + s));
    if (pooled()) pool(a, n, g, rows, c0, c1, out);
  }

  void multiply(const RunArgs& a, std::int64_t n, std::int64_t g, const Strip& rows, std::int64_t kb0,
                std::int64_t kb1, std::int64_t ib, const Output& out, float* buffer) const {
    const std::int64_t c = in_.length(ib), phase_row0 = rows.begin / grid_.phase_h;
    const float* image = static_cast<const float*>(a.in[0]) + n * grid_.src_h * grid_.src_w * grid_.src_c +
                         g * grid_.src_group() + in_.begin(ib);
    const float* src;
    std::ptrdiff_t src_row, src_pixel;
    if (grid_.padded) {
      src = buffer, src_pixel = c, src_row = patch_cols() * c;
      kernels_.patch({image, grid_.src_w * grid_.src_c, grid_.src_c, grid_.src_h, grid_.src_w,
                      phase_row0 * grid_.step_h + grid_.corner_row, grid_.corner_col,
                      patch_rows(rows.end - rows.begin), patch_cols(), c, buffer, c});
    } else {
      src_pixel = grid_.src_c, src_row = grid_.src_w * grid_.src_c;
      src = image + (phase_row0 * grid_.step_h + grid_.corner_row) * src_row + grid_.corner_col * src_pixel;
    }
    const auto* bias = operands_.bias >= 0 ? static_cast<const float*>(a.in[operands_.bias]) : nullptr;
    const auto* packed = reinterpret_cast<const float*>(a.packed);
    for (std::int64_t kb = kb0; kb < kb1; ++kb)
      for (std::size_t f = 0; f < grid_.phases.size(); ++f) {
        const ConvPhase& phase = grid_.phases[f];
        const auto& runs = runs_[ib + 1 == in_.count][f];
        ConvRow r{};
        r.in_pixel = grid_.step_w * src_pixel;
        r.runs = runs.data(), r.n_runs = static_cast<int>(runs.size());
        r.w = packed + weights_at(g, kb, phase, ib);
        r.out_pixel = grid_.phase_w * out.pixel;
        r.bias = ib == 0 && bias ? bias + g * grid_.out_group() + out_.begin(kb) : nullptr;
        r.oc = static_cast<int>(out_.length(kb));
        r.accumulate = ib > 0;
        const auto kernel = kernels_.row[out_.vectors(kb)];
        std::int64_t t = 0;
        for (std::int64_t row = rows.begin + phase.row; row < rows.end; row += grid_.phase_h, ++t) {
          r.in = src + t * grid_.step_h * src_row;
          r.out = out.row0 + (row - rows.begin) * out.row + phase.col * out.pixel + out_.begin(kb);
          r.pixels = static_cast<int>(ceil_div(grid_.cols(row) - phase.col, grid_.phase_w));
          kernel(r);
        }
      }
  }

  void finish(const RunArgs& a, std::int64_t n, std::int64_t g, const Strip& rows, std::int64_t c0,
              std::int64_t c1, const Output& out) const {
    if (!fusion_.add && fusion_.activation == Activation::kNone) return;
    const std::int64_t out_row = grid_.out_w * grid_.out_c;
    for (std::int64_t row = rows.begin; row < rows.end; ++row) {
      float* y = out.row0 + (row - rows.begin) * out.row + c0;
      const float* residual = nullptr;
      if (fusion_.add)
        residual = static_cast<const float*>(a.in[operands_.residual]) + (n * grid_.out_h + row) * out_row +
                   g * grid_.out_group() + c0;
      kernels_.finish({y, residual, out.pixel, grid_.out_c, grid_.cols(row), c1 - c0,
                       static_cast<Act>(fusion_.activation)});
    }
  }

  void collect(const Strip& rows, std::int64_t g, std::int64_t c0, std::int64_t c1, const Output& out,
               float* part) const {
    float* shift = part + g * grid_.out_group() + c0;
    for (std::int64_t row = rows.begin; row < rows.end; ++row)
      kernels_.moments(out.row0 + (row - rows.begin) * out.row + c0, out.pixel, grid_.cols(row), c1 - c0,
                       row == rows.begin, shift, shift + grid_.out_c, shift + 2 * grid_.out_c);
  }

  void pool(const RunArgs& a, std::int64_t n, std::int64_t g, const Strip& rows, std::int64_t c0,
            std::int64_t c1, const Output& out) const {
    const PoolSpec& p = fusion_.pool;
    const std::int64_t channel = g * grid_.out_group() + c0;
    if (operands_.unpooled >= 0) {
      auto* y = static_cast<float*>(a.out[operands_.unpooled]) + channel;
      for (std::int64_t row = rows.begin; row < rows.owned_end; ++row)
        kernels_.copy_pixels(out.row0 + (row - rows.begin) * out.row + c0, c1 - c0,
                             y + (n * grid_.out_h + row) * grid_.out_w * grid_.out_c, grid_.out_c,
                             grid_.out_w, c1 - c0);
    }
    for (std::int64_t row = rows.pooled_begin; row < rows.pooled_end; ++row)
      kernels_.pool(
          {out.row0 + (row * p.stride[0] - rows.begin) * out.row + c0, out.row, out.pixel, p.kernel[0],
           p.kernel[1], p.stride[1], pooled_w_, c1 - c0,
           static_cast<float*>(a.out[0]) + (n * pooled_h_ + row) * pooled_w_ * grid_.out_c + channel,
           grid_.out_c, p.kind == PoolSpec::kAverage});
  }

  const ConvKernels& kernels_;
  ConvGrid grid_;
  bool transposed_;
  ConvOperands operands_;
  Fusion fusion_;
  int threads_;
  std::int64_t w_in_ = 0, kernel_ = 1;  // w is [oc][w_in][kernel]
  ChannelBlocks in_;
  VectorBlocks out_;
  std::int64_t strip_ = 1, strips_ = 1, halo_ = 0, chunks_ = 1;
  std::int64_t pooled_h_ = 0, pooled_w_ = 0;
  std::vector<std::vector<ConvRun>> runs_[2];  // [last input block][phase]
  PartialMoments moments_;
};

}  // namespace

std::unique_ptr<Prepared> prepare_direct_forward(const Problem& p) {
  return std::make_unique<DirectConv>(p, forward_grid(conv_forward_params(p.attrs, p.inputs)), false);
}
std::unique_ptr<Prepared> prepare_direct_backward_data(const Problem& p) {
  return std::make_unique<DirectConv>(p, backward_data_grid(conv_backward_data_params(p.attrs, p.inputs)),
                                      true);
}

}  // namespace fastcnn::ops

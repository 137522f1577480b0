// Kernel size, stride, dilation and padding become phases, taps and runs here; nothing after this knows them.
#include <algorithm>
#include <limits>

#include "ops/conv/direct.h"
#include "ops/conv/epilogue.h"

namespace fastcnn::ops {
ConvGrid conv_grid(const ConvParams& p, const TensorDesc& src, bool transposed) {
  ConvGrid g;
  g.n = p.n, g.groups = p.groups, g.src_pixel = pixel_of(src);
  g.src_c = transposed ? p.oc : p.ic, g.out_c = transposed ? p.ic : p.oc;
  std::vector<std::vector<AxisTap>> taps[3];  // per phase, in the order of the input
  for (int d = 0; d < 3; ++d) {
    g.src[d] = transposed ? p.out[d] : p.in[d], g.out[d] = transposed ? p.in[d] : p.out[d];
    (transposed ? g.phase : g.step)[d] = transposed ? std::min(p.stride[d], p.in[d]) : p.stride[d];
    std::int64_t first = std::numeric_limits<std::int64_t>::max(), last = -first;
    for (std::int64_t a = 0; a < g.phase[d]; ++a) {
      std::vector<AxisTap> of_phase = taps_along(p, d, transposed, a);
      if (transposed) std::reverse(of_phase.begin(), of_phase.end());
      if (!of_phase.empty()) {
        const std::int64_t outputs = ceil_div(g.out[d] - a, g.phase[d]);
        first = std::min(first, of_phase.front().at), last = std::max(last, of_phase.back().at);
        g.padded |= of_phase.front().at < 0 || (outputs - 1) * g.step[d] + of_phase.back().at >= g.src[d];
      }
      taps[d].push_back(std::move(of_phase));
    }
    if (first > last) first = last = 0;  // no taps at all
    g.corner[d] = first, g.patch[d] = last - first + 1;
  }
  g.pixels = g.out[1] * g.out[2];
  for (std::int64_t i = 0; i < g.phase[0] * g.phase[1] * g.phase[2]; ++i) {
    ConvPhase f;
    f.first = {i / g.phase[2] / g.phase[1], i / g.phase[2] % g.phase[1], i % g.phase[2]};
    f.taps_before = g.taps;
    const auto along = [&](std::size_t d) { return taps[d][static_cast<std::size_t>(f.first[d])]; };
    for (const AxisTap& z : along(0))
      for (const AxisTap& y : along(1))
        for (const AxisTap& x : along(2)) {
          f.taps.push_back({z.at - g.corner[0], y.at - g.corner[1], x.at - g.corner[2]});
          f.indices.push_back(static_cast<int>((z.index * p.kernel[1] + y.index) * p.kernel[2] + x.index));
        }
    g.taps += static_cast<std::int64_t>(f.taps.size());
    g.phases.push_back(std::move(f));
  }
  return g;
}

bool flatten_grid(ConvGrid& g, std::int64_t length) {
  if (g.taps != 1 || g.phases.size() != 1 || g.padded || g.n == 0) return false;
  for (int d = 0; d < 3; ++d)
    if (g.step[d] != 1 || g.src[d] != g.out[d]) return false;
  g.pixels *= g.planes();
  g.n = g.src[0] = g.out[0] = 1;
  g.src[2] = g.out[2] = std::min(length, g.pixels);
  g.src[1] = g.out[1] = ceil_div(g.pixels, g.out[2]);
  return true;
}

void StripConv::cut(int axis, std::int64_t length, std::int64_t wanted, std::int64_t unit,
                    std::int64_t extra) {
  axis_ = axis;
  const std::int64_t parts = std::max<std::int64_t>(1, ceil_div(length, wanted));
  size_ = round_up(ceil_div(length, parts), unit);
  count_ = std::max<std::int64_t>(1, ceil_div(length, size_));
  rows_ = std::min(axis == 1 ? size_ + extra : grid_.phase[1], grid_.out[1]);
  cols_ = std::min(axis == 1 ? grid_.out[2] : size_, grid_.out[2]);
  lines_ = axis == 1 ? 1 : ceil_div(grid_.out[1], rows_);
  if (grid_.padded)
    patch_ = own_.add(grid_.patch[0] * grid_.reach(1, rows_) * grid_.reach(2, cols_) * in_.size);
  for (ConvPhase& f : grid_.phases)
    for (const bool last : {false, true})
      for (const ConvTap& t : f.taps) {
        const std::int64_t ib = last ? in_.count - 1 : 0, offset = steps(ib).of(t), c = in_.length(ib);
        std::vector<ConvRun>& runs = f.runs[last];
        f.offsets[last].push_back(offset);
        if (!runs.empty() && runs.back().offset + runs.back().length == offset)
          runs.back().length += c;
        else
          runs.push_back({offset, c});
      }
}

void StripConv::cut_patches(std::int64_t floats) {
  const double lines = static_cast<double>(floats_along(1, 0) * grid_.phase[1]);
  const int axis = axis_of(lines / static_cast<double>(floats));
  const std::int64_t unit = grid_.phase[axis], length = grid_.out[axis];
  cut(axis, length, std::clamp(floats / floats_along(axis, 0) / unit * unit, unit, round_up(length, unit)),
      unit);
}

ConvStrip StripConv::strip(std::int64_t i) const {
  const std::int64_t plane = i / (lines_ * count_);
  i %= lines_ * count_;
  if (axis_ == 1) return {plane, i * size_, std::min(grid_.out[1], (i + 1) * size_), 0, grid_.out[2]};
  const std::int64_t row = i / count_ * rows_, col = i % count_ * size_;
  return {plane, row, std::min(grid_.out[1], row + rows_), col, std::min(grid_.out[2], col + size_)};
}

std::string StripConv::text() const {
  return str(lines_ * count_, " strips of ", size_, axis_ == 1 ? " rows" : " columns");
}

ConvSteps StripConv::steps(std::int64_t ib) const {
  const std::int64_t pixel = grid_.padded ? in_.length(ib) : grid_.src_pixel;
  const std::int64_t row = (grid_.padded ? grid_.reach(2, cols_) : grid_.src[2]) * pixel;
  return {(grid_.padded ? grid_.reach(1, rows_) : grid_.src[1]) * row, row, pixel};
}

const float* StripConv::source(const RunArgs& a, const Worker& w, const ConvStrip& s, std::int64_t channel,
                               std::int64_t ib) const {
  const ConvGrid& g = grid_;
  const std::int64_t row = g.src[2] * g.src_pixel, of_plane = g.src[1] * row, c = in_.length(ib);
  const std::int64_t z0 = s.plane % g.out[0] / g.phase[0] * g.step[0] + g.corner[0];
  const std::int64_t y0 = s.row0 / g.phase[1] * g.step[1] + g.corner[1];
  const std::int64_t x0 = s.col0 / g.phase[2] * g.step[2] + g.corner[2];
  const float* const x = floats(a.in[0]) + s.plane / g.out[0] * g.src[0] * of_plane + channel + in_.begin(ib);
  if (!g.padded) return x + z0 * of_plane + y0 * row + x0 * g.src_pixel;
  float* const patch = patch_.in(w.own);
  for (std::int64_t d = 0; d < g.patch[0]; ++d) {
    const bool inside = z0 + d >= 0 && z0 + d < g.src[0];  // else nothing but zeros
    k_.patch({x + (inside ? (z0 + d) * of_plane : 0), row, g.src_pixel, inside ? g.src[1] : 0, g.src[2], y0,
              x0, g.reach(1, s.row1 - s.row0), g.reach(2, cols_), c, patch + d * steps(ib).plane, c});
  }
  return patch;
}

StripOutputs::StripOutputs(const Problem& p, bool transposed)
    : StripConv(p, transposed),
      bias_(own_input(p, 2)),
      out_pixel_(pixel_of(p.outputs[0])),
      function_(function_of(p.after)) {
  if (const PostOp* add = find(p.after, PostKind::kAdd)) residual_ = add->in;
  if (const PostOp* f = find(p.after, PostKind::kFunction)) kept_ = f->out;
  if (residual_ >= 0) residual_pixel_ = pixel_of(p.inputs[static_cast<std::size_t>(residual_)]);
  if (kept_ >= 0) kept_pixel_ = pixel_of(p.outputs[static_cast<std::size_t>(kept_)]);
}

void StripOutputs::set_stages(const Problem& p, std::int64_t items) {
  stages_ = {items};
  moments_ = PartialMoments(p, strips(), grid_.out_c, stages_, shared_, [&](std::int64_t i) {
    const ConvStrip s = strip(i);
    std::int64_t pixels = 0;
    for (std::int64_t row = s.row0; row < s.row1; ++row) pixels += s.cols(grid_, row);
    return pixels;
  });
}

void StripOutputs::finish(const RunArgs& a, std::int64_t i, const ConvStrip& s, const ConvOutput& out,
                          std::int64_t channel, std::int64_t c, std::int64_t kept_end) const {
  float* const shift = moments_.part(a, i, channel);
  const float* const residual = floats(a.in, residual_);
  float* const kept = floats(a.out, kept_);
  for (std::int64_t row = s.row0; row < s.row1; ++row) {
    float* const y = out.at + (row - s.row0) * out.row;
    const std::int64_t at = grid_.first_pixel(s.plane, row) + s.col0, pixels = s.cols(grid_, row);
    if (residual || function_)
      k_.finish({y, residual ? residual + at * residual_pixel_ + channel : nullptr,
                 kept && row < kept_end ? kept + at * kept_pixel_ + channel : nullptr, out.pixel,
                 residual_pixel_, kept_pixel_, pixels, c, function_});
    if (shift)
      k_.moments(y, out.pixel, pixels, c, row == s.row0, shift, shift + grid_.out_c, shift + 2 * grid_.out_c);
  }
}

// w is [oc][ic / groups][taps]: a group's slice lies along oc whichever role oc plays.
ConvWeights PackedWeights::block(const ConvParams& c, bool transposed, std::int64_t g, std::int64_t kb,
                                 std::int64_t ib, std::int64_t* from) const {
  ConvWeights s{};
  s.oc_stride = c.gic() * c.taps(), s.ic_stride = c.taps();
  if (transposed) std::swap(s.oc_stride, s.ic_stride);
  s.ic = static_cast<int>(in.length(ib)), s.oc = static_cast<int>(out.length(kb));
  s.vectors = out.vectors(kb);
  s.packed_tap = s.ic * out.lanes(kb);
  *from = g * c.goc() * c.gic() * c.taps() + out.begin(kb) * s.oc_stride + in.begin(ib) * s.ic_stride;
  return s;
}

std::string PackedWeights::text(const ConvKernels& k, const std::string& strips, std::int64_t chunks) const {
  const int vectors = out.vectors(0);
  return str("tile ", k.tile[vectors], "x", vectors, ", ", strips, ", ", in.count, " input blocks, ", chunks,
             " output chunks", grid.padded ? "" : ", unpacked input");
}

}  // namespace fastcnn::ops

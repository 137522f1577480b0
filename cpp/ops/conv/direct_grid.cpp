// Kernel size, stride, dilation and padding become phases, taps and runs here; nothing after this knows them.
#include <algorithm>
#include <limits>

#include "ops/conv/direct.h"
#include "ops/conv/epilogue.h"

namespace fastcnn::ops {
namespace {

struct Tap {  // along one dimension
  std::int64_t at, index;
};
using Taps = std::vector<Tap>;

void add_phase(ConvGrid& g, const ConvParams& p, std::array<std::int64_t, 3> first, const Taps& depth,
               const Taps& rows, const Taps& cols) {
  ConvPhase f{first, {}, {}};
  for (const Tap& z : depth)
    for (const Tap& y : rows)
      for (const Tap& x : cols)
        f.taps.push_back({{z.at, y.at, x.at},
                          static_cast<int>((z.index * p.kernel[1] + y.index) * p.kernel[2] + x.index)});
  g.phases.push_back(std::move(f));
}

// Sorts the taps in memory order, moves them to the corner and looks whether any leaves the image.
void finish(ConvGrid& g) {
  for (int d = 0; d < 3; ++d) {
    const auto i = static_cast<std::size_t>(d);
    std::int64_t first = std::numeric_limits<std::int64_t>::max(), last = -first;
    for (const ConvPhase& f : g.phases)
      for (const ConvTap& t : f.taps) {
        first = std::min(first, t.at[i]), last = std::max(last, t.at[i]);
        const std::int64_t of_last = (ceil_div(g.out[d] - f.first[i], g.phase[d]) - 1) * g.step[d] + t.at[i];
        g.padded |= t.at[i] < 0 || of_last >= g.src[d];
      }
    if (first > last) first = last = 0;  // no taps at all
    g.corner[d] = first, g.patch[d] = last - first + 1;
    for (ConvPhase& f : g.phases)
      for (ConvTap& t : f.taps) t.at[i] -= first;
  }
  g.pixels = g.out[1] * g.out[2];
  for (ConvPhase& f : g.phases) {
    std::sort(f.taps.begin(), f.taps.end(), [](const ConvTap& a, const ConvTap& b) { return a.at < b.at; });
    f.taps_before = g.taps;
    g.taps += static_cast<std::int64_t>(f.taps.size());
    for (const ConvTap& t : f.taps) f.indices.push_back(t.index);
  }
}

}  // namespace

// Forward: y[r] = sum over k of x[r stride + k dilation - before] w[k]. Transposed: dx[r] = sum over k with
// (r + before - k dilation) divisible by the stride of dy[(r + before - k dilation) / stride] w[k], in every
// dimension.
ConvGrid conv_grid(const ConvParams& p, const TensorDesc& src, bool transposed) {
  ConvGrid g;
  g.n = p.n, g.groups = p.groups, g.src_pixel = pixel_of(src);
  g.src_c = transposed ? p.oc : p.ic, g.out_c = transposed ? p.ic : p.oc;
  std::vector<Taps> taps[3];  // per phase
  for (int d = 0; d < 3; ++d) {
    g.src[d] = transposed ? p.out[d] : p.in[d], g.out[d] = transposed ? p.in[d] : p.out[d];
    if (transposed)
      g.phase[d] = std::min(p.stride[d], p.in[d]);
    else
      g.step[d] = p.stride[d];
    taps[d].resize(static_cast<std::size_t>(g.phase[d]));
    for (std::int64_t a = 0; a < g.phase[d]; ++a)
      for (std::int64_t k = 0; k < p.kernel[d]; ++k) {
        const std::int64_t offset = k * p.dilation[d] - p.before[d];
        Taps& of_phase = taps[d][static_cast<std::size_t>(a)];
        if (!transposed)
          of_phase.push_back({offset, k});
        else if ((a - offset) % p.stride[d] == 0)
          of_phase.push_back({(a - offset) / p.stride[d], k});
      }
  }
  for (std::size_t z = 0; z < taps[0].size(); ++z)
    for (std::size_t y = 0; y < taps[1].size(); ++y)
      for (std::size_t x = 0; x < taps[2].size(); ++x)
        add_phase(g, p,
                  {static_cast<std::int64_t>(z), static_cast<std::int64_t>(y), static_cast<std::int64_t>(x)},
                  taps[0][z], taps[1][y], taps[2][x]);
  finish(g);
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

ConvStrips::ConvStrips(const ConvGrid& g, int axis, std::int64_t length, std::int64_t wanted,
                       std::int64_t unit)
    : axis(axis), rows(std::min(g.phase[1], g.out[1])), cols(g.out[2]) {
  const std::int64_t parts = std::max<std::int64_t>(1, ceil_div(length, wanted));
  size = round_up(ceil_div(length, parts), unit);
  count = std::max<std::int64_t>(1, ceil_div(length, size));
  lines = axis == 1 ? 1 : ceil_div(g.out[1], rows);
  (axis == 1 ? rows : cols) = std::min(size, g.out[axis]);
}

ConvStrip ConvStrips::strip(const ConvGrid& g, std::int64_t i) const {
  if (axis == 1) return {i * size, std::min(g.out[1], (i + 1) * size), 0, g.out[2]};
  const std::int64_t row = i / count * rows, col = i % count * size;
  return {row, std::min(g.out[1], row + rows), col, std::min(g.out[2], col + size)};
}

std::string ConvStrips::text() const {
  return str(of_plane(), " strips of ", size, axis == 1 ? " rows" : " columns");
}

std::int64_t ConvInput::patch_floats(const ConvGrid& g, std::int64_t c) const {
  return g.padded ? g.patch[0] * g.reach(1, rows_) * g.reach(2, cols_) * c : 0;
}

ConvSteps ConvInput::steps(const ConvGrid& g, std::int64_t c) const {
  if (!g.padded) return {g.src[1] * g.src[2] * g.src_pixel, g.src[2] * g.src_pixel, g.src_pixel};
  const std::int64_t row = g.reach(2, cols_) * c;
  return {g.reach(1, rows_) * row, row, c};
}

const float* ConvInput::at(const ConvGrid& g, const float* x, std::int64_t plane, const ConvStrip& s,
                           std::int64_t channel, std::int64_t c, float* patch) const {
  const std::int64_t row = g.src[2] * g.src_pixel, of_plane = g.src[1] * row;
  const std::int64_t z0 = plane % g.out[0] / g.phase[0] * g.step[0] + g.corner[0];
  const std::int64_t y0 = s.row0 / g.phase[1] * g.step[1] + g.corner[1];
  const std::int64_t x0 = s.col0 / g.phase[2] * g.step[2] + g.corner[2];
  x += plane / g.out[0] * g.src[0] * of_plane + channel;
  if (!g.padded) return x + z0 * of_plane + y0 * row + x0 * g.src_pixel;
  const ConvSteps to = steps(g, c);
  for (std::int64_t d = 0; d < g.patch[0]; ++d) {
    const bool inside = z0 + d >= 0 && z0 + d < g.src[0];  // else nothing but zeros
    k_->patch({x + (inside ? (z0 + d) * of_plane : 0), row, g.src_pixel, inside ? g.src[1] : 0, g.src[2], y0,
               x0, g.reach(1, s.row1 - s.row0), g.reach(2, cols_), c, patch + d * to.plane, c});
  }
  return patch;
}

std::vector<ConvRun> runs_of(const ConvPhase& phase, const ConvSteps& steps, std::int64_t c) {
  std::vector<ConvRun> runs;
  for (const ConvTap& t : phase.taps) {
    const std::int64_t offset = steps.of(t);
    if (!runs.empty() && runs.back().offset + runs.back().length == offset)
      runs.back().length += c;
    else
      runs.push_back({offset, c});
  }
  return runs;
}

}  // namespace fastcnn::ops

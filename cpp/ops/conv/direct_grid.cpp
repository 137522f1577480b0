// Kernel size, stride, dilation and padding become phases, taps and runs here; nothing after this knows them.
#include <algorithm>
#include <limits>

#include "ops/checks.h"
#include "ops/conv/direct.h"
#include "ops/conv/winograd.h"
#include "ops/pieces.h"

namespace fastcnn::ops {
namespace {

std::int64_t remainder(std::int64_t a, std::int64_t b) { return (a % b + b) % b; }

// Sorts the taps in memory order, moves them to the corner and looks whether any leaves the image.
void finish(ConvGrid& g) {
  constexpr std::int64_t kFar = std::numeric_limits<std::int64_t>::max();
  std::int64_t top = kFar, left = kFar, bottom = -kFar, right = -kFar;
  for (const ConvPhase& f : g.phases)
    for (const ConvTap& t : f.taps) {
      top = std::min(top, t.row), bottom = std::max(bottom, t.row);
      left = std::min(left, t.col), right = std::max(right, t.col);
      const std::int64_t last_row = (ceil_div(g.out_h - f.row, g.phase_h) - 1) * g.step_h + t.row;
      const std::int64_t last_col = (ceil_div(g.out_w - f.col, g.phase_w) - 1) * g.step_w + t.col;
      g.padded |= t.row < 0 || t.col < 0 || last_row >= g.src_h || last_col >= g.src_w;
    }
  if (top == kFar) top = left = bottom = right = 0;
  g.corner_row = top, g.corner_col = left;
  g.patch_h = bottom - top + 1, g.patch_w = right - left + 1;
  g.pixels = g.out_h * g.out_w;
  for (ConvPhase& f : g.phases) {
    std::sort(f.taps.begin(), f.taps.end(), [](const ConvTap& a, const ConvTap& b) {
      return a.row != b.row ? a.row < b.row : a.col < b.col;
    });
    f.taps_before = g.taps;
    g.taps += static_cast<std::int64_t>(f.taps.size());
    for (ConvTap& t : f.taps) {
      t.row -= top, t.col -= left;
      f.indices.push_back(t.index);
    }
  }
}

}  // namespace

ConvGrid forward_grid(const ConvParams& p) {
  ConvGrid g;
  g.n = p.n, g.groups = p.groups;
  g.src_h = p.ih, g.src_w = p.iw, g.src_c = p.ic;
  g.out_h = p.oh, g.out_w = p.ow, g.out_c = p.oc;
  g.step_h = p.sh, g.step_w = p.sw;
  ConvPhase f;
  for (std::int64_t y = 0; y < p.kh; ++y)
    for (std::int64_t x = 0; x < p.kw; ++x)
      f.taps.push_back({y * p.dh - p.pt, x * p.dw - p.pl, static_cast<int>(y * p.kw + x)});
  g.phases.push_back(std::move(f));
  finish(g);
  return g;
}

// dx[r] = sum over kh with (r + pt - kh dh) divisible by sh of dy[(r + pt - kh dh) / sh] w[kh], and likewise
// across.
ConvGrid backward_data_grid(const ConvParams& p) {
  ConvGrid g;
  g.n = p.n, g.groups = p.groups;
  g.src_h = p.oh, g.src_w = p.ow, g.src_c = p.oc;
  g.out_h = p.ih, g.out_w = p.iw, g.out_c = p.ic;
  g.phase_h = std::min(p.sh, p.ih), g.phase_w = std::min(p.sw, p.iw);
  for (std::int64_t a = 0; a < g.phase_h; ++a)
    for (std::int64_t b = 0; b < g.phase_w; ++b) {
      ConvPhase f;
      f.row = a, f.col = b;
      for (std::int64_t y = 0; y < p.kh; ++y) {
        if (remainder(a + p.pt - y * p.dh, p.sh) != 0) continue;
        for (std::int64_t x = 0; x < p.kw; ++x)
          if (remainder(b + p.pl - x * p.dw, p.sw) == 0)
            f.taps.push_back(
                {(a + p.pt - y * p.dh) / p.sh, (b + p.pl - x * p.dw) / p.sw, static_cast<int>(y * p.kw + x)});
      }
      g.phases.push_back(std::move(f));
    }
  finish(g);
  return g;
}

bool flatten_grid(ConvGrid& g, std::int64_t length) {
  if (g.taps != 1 || g.phases.size() != 1 || g.padded || g.step_h != 1 || g.step_w != 1 ||
      g.src_h != g.out_h || g.src_w != g.out_w)
    return false;
  const std::int64_t total = g.n * g.pixels;
  if (total == 0) return false;
  g.n = 1;
  g.src_w = g.out_w = std::min(length, total);
  g.src_h = g.out_h = ceil_div(total, g.out_w);
  g.pixels = total;
  return true;
}

std::vector<ConvRun> runs_of(const ConvPhase& phase, std::int64_t row_stride, std::int64_t pixel,
                             std::int64_t c) {
  std::vector<ConvRun> runs;
  for (const ConvTap& t : phase.taps) {
    const std::int64_t offset = t.row * row_stride + t.col * pixel;
    if (!runs.empty() && pixel == c && runs.back().offset + runs.back().length == offset)
      runs.back().length += c;
    else
      runs.push_back({offset, c});
  }
  return runs;
}

namespace {

std::string declines(const Problem& p) { return unless_in(p, Layout::kNHWC); }

// A pool rides along only where no special implementation would do the convolution without it: that saves
// more than not writing the value before the pool.
std::string forward_declines(const Problem& p) {
  const std::string layout = declines(p);
  if (!layout.empty() || p.fusion.pool.kind == PoolSpec::kNone || p.attrs.has("implementation"))
    return layout;
  const ConvParams c = conv_forward_params(p.attrs, p.inputs);
  if (c.depthwise()) return "depthwise without the pool is faster";
  return winograd_declines(p, c).empty() ? "winograd4x4 without the pool is faster" : "";
}

}  // namespace

std::vector<Impl> conv2d_direct(ConvDirection d) {
  switch (d) {
    case ConvDirection::kForward:
      return {{"direct", forward_declines, prepare_direct_forward}};
    case ConvDirection::kBackwardData:
      return {{"direct", declines, prepare_direct_backward_data}};
    case ConvDirection::kBackwardWeights:
      return {{"direct", declines, prepare_direct_backward_weights}};
  }
  return {};
}

}  // namespace fastcnn::ops

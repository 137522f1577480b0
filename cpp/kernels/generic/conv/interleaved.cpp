// Convolution of one batch-interleaved block: tiles of output channels x pixels, weights broadcast. Serves
// forward and, phase by phase of the stride, backward data.
#include "kernels/interleaved.h"

#include "kernels/generic/conv/interleaved_parts.h"

namespace fastcnn {
namespace FASTCNN_ISA {
namespace {

constexpr int kMaxChannels = 8, kMaxPixels = 8;

// Inside tiles hold a pixel's vectors while weights pass by; border tiles the weights while pixels pass by.
constexpr bool fits(int channels, int pixels, bool inside) {
  return channels * pixels <= kConvSums && channels * pixels + (inside ? pixels : channels) + 1 <= kRegisters;
}

// The place of one tile: x, w, start and y at its first pixel and channel (and first tap, which may lie
// outside x), the column there, and the taps whose rows lie inside.
struct Tile {
  const float* x;
  std::int64_t col;
  const IlTap *tap, *end;
  const float* w;
  const float* start;
  float* y;
};

// kUnit: neighbouring pixels read neighbouring columns.
template <int OT, int PT, bool kInside, bool kUnit>
void conv_tile(const IlConv& c, const Tile& t) {
  Vec acc[OT][PT];
#pragma GCC unroll 8
  for (int o = 0; o < OT; ++o) {
    const Vec s = t.start ? broadcast(t.start[o]) : zero();
#pragma GCC unroll 8
    for (int j = 0; j < PT; ++j) acc[o][j] = s;
  }
  const std::int64_t col_step = kUnit ? 1 : c.col_step, col = t.col, in_w = c.in_w;
  const std::ptrdiff_t step = col_step * kWidth, w_o = c.w_o;
  const float *const x = t.x, *const w = t.w;
  for (const IlTap *tap = t.tap, *const end = t.end; tap != end; ++tap) {
    const float *const xp = x + tap->x, *const w0 = w + tap->w, *const w4 = w0 + 4 * w_o;
    if (kInside) {
      Vec xv[PT];
#pragma GCC unroll 8
      for (int j = 0; j < PT; ++j) xv[j] = load(xp + j * step);
#pragma GCC unroll 8
      for (int o = 0; o < OT; ++o) {
        const Vec wv = broadcast(o < 4 ? w0[o * w_o] : w4[(o - 4) * w_o]);
#pragma GCC unroll 8
        for (int j = 0; j < PT; ++j) acc[o][j] = fma(wv, xv[j], acc[o][j]);
      }
    } else {
      Vec wv[OT];
#pragma GCC unroll 8
      for (int o = 0; o < OT; ++o) wv[o] = broadcast(o < 4 ? w0[o * w_o] : w4[(o - 4) * w_o]);
      const std::int64_t first = col + tap->column;
#pragma GCC unroll 8
      for (int j = 0; j < PT; ++j) {
        if (static_cast<std::uint64_t>(first + j * col_step) >= static_cast<std::uint64_t>(in_w)) continue;
        const Vec xv = load(xp + j * step);
#pragma GCC unroll 8
        for (int o = 0; o < OT; ++o) acc[o][j] = fma(wv[o], xv, acc[o][j]);
      }
    }
  }
  float* const y = t.y;
  const std::ptrdiff_t y_c = c.y_c, y_col = c.y_col;
#pragma GCC unroll 8
  for (int o = 0; o < OT; ++o)
#pragma GCC unroll 8
    for (int j = 0; j < PT; ++j) store(y + o * y_c + j * y_col, acc[o][j]);
}

using TileFn = void (*)(const IlConv&, const Tile&);

struct TileTable {
  TileFn at[kMaxChannels + 1][kMaxPixels + 1];
};

template <bool kInside, bool kUnit, int OT, int PT>
constexpr void fill(TileTable& t) {
  if constexpr (fits(OT, PT, kInside)) t.at[OT][PT] = conv_tile<OT, PT, kInside, kUnit>;
  if constexpr (PT < kMaxPixels)
    fill<kInside, kUnit, OT, PT + 1>(t);
  else if constexpr (OT < kMaxChannels)
    fill<kInside, kUnit, OT + 1, 1>(t);
}

template <bool kInside, bool kUnit>
constexpr TileTable make_table() {
  TileTable t{};
  fill<kInside, kUnit, 1, 1>(t);
  return t;
}

constexpr TileTable kTiles[2][2] = {{make_table<false, false>(), make_table<false, true>()},
                                    {make_table<true, false>(), make_table<true, true>()}};

void plan_section(IlConv::Section& s, std::int64_t begin, std::int64_t end, std::int64_t out, bool inside) {
  s = {begin, end, 1, 1};
  double least = 0;
  for (int o = 1; o <= kMaxChannels && o <= out; ++o)
    for (int j = 1; j <= kMaxPixels && j <= end - begin; ++j) {
      if (!fits(o, j, inside)) continue;
      const double t = tiled_time(Parts(out, o), Parts(end - begin, j));
      if (least == 0 || t < least) least = t, s.channels = o, s.pixels = j;
    }
}

void plan(IlConv* c) {
  if (c->kh == 0 || c->kw == 0) c->kh = c->kw = 0;  // no taps: zeros
  const std::int64_t reach = c->kw ? (c->kw - 1) * c->tap_col : 0;
  const std::int64_t low = c->col0 + (reach < 0 ? reach : 0), high = c->col0 + (reach > 0 ? reach : 0);
  Range inside(0, 1, c->cols, c->cols);
  if (c->kw) {
    inside.begin = Range(low, c->col_step, c->in_w, c->cols).begin;
    inside.end = Range(high, c->col_step, c->in_w, c->cols).end;
    if (inside.begin >= inside.end) inside.begin = inside.end = c->cols;
  }
  plan_section(c->sections[0], 0, inside.begin, c->out, false);
  plan_section(c->sections[1], inside.begin, inside.end, c->out, true);
  plan_section(c->sections[2], inside.end, c->cols, c->out, false);
}

void fill_taps(const IlConv& c, IlTap* taps) {
  for (std::int64_t r = 0; r < c.kh; ++r)
    for (std::int64_t ch = 0; ch < c.sum; ++ch)
      for (std::int64_t q = 0; q < c.kw; ++q) {
        const std::int64_t x = ((ch * c.in_h + r * c.tap_row) * c.in_w + q * c.tap_col) * kWidth;
        *taps++ = {static_cast<std::int32_t>(x),
                   static_cast<std::int32_t>(ch * c.w_c + r * c.w_r + q * c.w_q),
                   static_cast<std::int32_t>(q * c.tap_col)};
      }
}

// Tap rows inside x for the output row whose tap 0 reads input row `row`.
Range tap_rows(const IlConv& c, std::int64_t row) {
  if (c.tap_row > 0) return Range(row, c.tap_row, c.in_h, c.kh);
  return Range(c.in_h - 1 - row, -c.tap_row, c.in_h, c.kh);
}

void conv_rows(const IlConv& c, const float* x, const float* w, const float* start, float* y,
               std::int64_t first, std::int64_t last) {
  const std::int64_t per_row = c.sum * c.kw;
  for (std::int64_t i = first; i < last; ++i) {
    const std::int64_t row = c.row0 + i * c.row_step;
    const Range inside = c.kh ? tap_rows(c, row) : Range(0, 1, 0, 0);
    for (int s = 0; s < 3; ++s) {
      const IlConv::Section& section = c.sections[s];
      const TileTable& tiles = kTiles[s == 1][c.col_step == 1];
      const Parts channels(c.out, section.channels), pixels(section.end - section.begin, section.pixels);
      std::int64_t o = 0;
      for (std::int64_t a = 0; a < channels.count; o += channels.at(a), ++a) {
        std::int64_t j = section.begin;
        for (std::int64_t b = 0; b < pixels.count; j += pixels.at(b), ++b)
          tiles.at[channels.at(a)][pixels.at(b)](
              c, {x + (row * c.in_w + c.col0 + j * c.col_step) * kWidth, c.col0 + j * c.col_step,
                  c.taps + inside.begin * per_row, c.taps + inside.end * per_row, w + o * c.w_o,
                  start ? start + o : nullptr, y + o * c.y_c + i * c.y_row + j * c.y_col});
      }
    }
  }
}

}  // namespace

extern const InterleavedKernels kInterleaved;
const InterleavedKernels kInterleaved = {plan,           fill_taps,       conv_rows, il_plan_weights,
                                         il_fill_pixels, il_conv_weights, il_finish, il_pool_row};

}  // namespace FASTCNN_ISA
}  // namespace fastcnn

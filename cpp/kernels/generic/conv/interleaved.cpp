// Convolution of one batch-interleaved block: tiles of output channels x pixels, weights broadcast. Serves
// forward and, phase by phase of the stride, backward data.
#include "kernels/interleaved.h"

#include "kernels/generic/lanes.h"
#include "kernels/generic/tiles.h"

namespace fastcnn::FASTCNN_ISA {
namespace {

// Sums a convolution tile keeps: fewer than kAccumulators where operands need the registers too.
constexpr int kConvSums = kAccumulators < 24 ? kAccumulators : 24;

// Rows i (or columns) with 0 <= at + i * step < size, i in [0, count), step > 0.
struct Range {
  std::int64_t begin = 0, end = 0;

  Range() = default;
  Range(std::int64_t at, std::int64_t step, std::int64_t size, std::int64_t count) {
    begin = at >= 0 ? 0 : ceil_div(-at, step);
    end = at >= size ? 0 : ceil_div(size - at, step);
    if (end > count) end = count;
    if (begin > end) begin = end;
  }
  // Taps inside x for output i of an axis; at: the position of its first tap.
  static Range taps(const IlAxis& a, std::int64_t i, std::int64_t* at) {
    *at = a.first + i * a.step;
    if (a.tap_step > 0) return Range(*at, a.tap_step, a.in, a.taps);
    return Range(a.in - 1 - *at, -a.tap_step, a.in, a.taps);
  }
  // Outputs of an axis at which all taps [first, first + count) lie inside x.
  static Range outputs(const IlAxis& a, std::int64_t first, std::int64_t count) {
    const std::int64_t low = a.first + first * a.tap_step, high = low + (count - 1) * a.tap_step;
    Range r(low < high ? low : high, a.step, a.in, a.out);
    r.end = Range(low < high ? high : low, a.step, a.in, a.out).end;
    if (r.begin > r.end) r.begin = r.end;
    return r;
  }
};

// The place of one tile: x, w, start and y at its first pixel and channel (and first tap, which may lie
// outside x), the column there, and the taps whose planes and rows lie inside: `planes` runs [tap, end), at
// least one, which may be empty.
struct Tile {
  const float* x;
  std::int64_t col;
  const IlTap *tap, *end;
  std::int64_t planes, plane, skip;  // taps from run to run, and from one's end to the next
  const float* w;
  const float* start;
  float* y;
};

// Inside tiles hold a pixel's vectors while weights pass by; border tiles the weights while pixels pass by.
// kUnit: neighbouring pixels read neighbouring columns.
template <bool kInside, bool kUnit = false>
struct ConvTiles {
  static constexpr int kRows = 8, kColumns = 8;  // channels, pixels
  static constexpr bool fits(int channels, int pixels) {
    return channels * pixels <= kConvSums &&
           channels * pixels + (kInside ? pixels : channels) + 1 <= kRegisters;
  }

  template <int OT, int PT>
  static void tile(const IlConv& c, const Tile& t) {
    Vec acc[OT][PT];
    each_register<OT, PT>([&](int o, int j) { acc[o][j] = t.start ? broadcast(t.start[o]) : zero(); });
    const IlAxis& cols = c.axis[2];
    const std::int64_t col_step = kUnit ? 1 : cols.step, col = t.col, in_w = cols.in;
    const std::ptrdiff_t step = col_step * kWidth, w_o = c.w_o;
    const float *const x = t.x, *const w = t.w;
    const IlTap *tap = t.tap, *end = t.end;
    for (std::int64_t left = t.planes;; tap += t.skip, end += t.plane) {
      for (; tap != end; ++tap) {
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
            if (static_cast<std::uint64_t>(first + j * col_step) >= static_cast<std::uint64_t>(in_w))
              continue;
            const Vec xv = load(xp + j * step);
#pragma GCC unroll 8
            for (int o = 0; o < OT; ++o) acc[o][j] = fma(wv[o], xv, acc[o][j]);
          }
        }
      }
      if (--left <= 0) break;
    }
    float* const y = t.y;
    const std::ptrdiff_t y_c = c.y_c, y_col = cols.y;
    each_register<OT, PT>([&](int o, int j) { store(y + o * y_c + j * y_col, acc[o][j]); });
  }
};

constexpr decltype(make_tiles<ConvTiles<true>>()) kTiles[2][2] = {
    {make_tiles<ConvTiles<false, false>>(), make_tiles<ConvTiles<false, true>>()},
    {make_tiles<ConvTiles<true, false>>(), make_tiles<ConvTiles<true, true>>()}};

template <bool kInside>
void plan_section(IlConv::Section& s, std::int64_t begin, std::int64_t end, std::int64_t out) {
  const TileShape best = best_tile<ConvTiles<kInside>>(out, end - begin);
  s = {begin, end, best.rows, best.columns};
}

void plan(IlConv* c, IlTap* table) {
  const IlAxis &planes = c->axis[0], &rows = c->axis[1], &cols = c->axis[2];
  const bool zeros = planes.taps * rows.taps * cols.taps == 0;
  if (zeros)
    for (IlAxis& a : c->axis) a.taps = 0;
  Range inside = zeros ? Range(0, 1, cols.out, cols.out) : Range::outputs(cols, 0, cols.taps);
  if (!zeros && inside.begin == inside.end) inside.begin = inside.end = cols.out;
  plan_section<false>(c->sections[0], 0, inside.begin, c->out);
  plan_section<true>(c->sections[1], inside.begin, inside.end, c->out);
  plan_section<false>(c->sections[2], inside.end, cols.out, c->out);
  c->taps = table;
  for (std::int64_t d = 0; d < planes.taps; ++d)
    for (std::int64_t r = 0; r < rows.taps; ++r)
      for (std::int64_t ch = 0; ch < c->sum; ++ch)
        for (std::int64_t q = 0; q < cols.taps; ++q) {
          const std::int64_t row = (ch * planes.in + d * planes.tap_step) * rows.in + r * rows.tap_step;
          *table++ = {static_cast<std::int32_t>((row * cols.in + q * cols.tap_step) * kWidth),
                      static_cast<std::int32_t>(ch * c->w_c + d * planes.w + r * rows.w + q * cols.w),
                      static_cast<std::int32_t>(q * cols.tap_step)};
        }
}

void conv_rows(const IlConv& c, const float* x, const float* w, const float* start, float* y,
               std::int64_t first, std::int64_t last) {
  const IlAxis &planes = c.axis[0], &rows = c.axis[1], &cols = c.axis[2];
  const std::int64_t per_row = c.sum * cols.taps, per_plane = per_row * rows.taps;
  for (std::int64_t i = first; i < last; ++i) {
    const std::int64_t plane = i / rows.out, row = i % rows.out;
    std::int64_t x_plane, x_row;
    const Range deep = Range::taps(planes, plane, &x_plane), inside = Range::taps(rows, row, &x_row);
    const IlTap* const taps = c.taps + deep.begin * per_plane + inside.begin * per_row;
    const std::int64_t run = deep.begin < deep.end ? (inside.end - inside.begin) * per_row : 0;
    const float* const x0 = x + (x_plane * rows.in + x_row) * cols.in * kWidth;
    float* const y0 = y + plane * planes.y + row * rows.y;
    for (int s = 0; s < 3; ++s) {
      const IlConv::Section& section = c.sections[s];
      const auto& tiles = kTiles[s == 1][cols.step == 1];
      const Parts channels(c.out, section.channels), pixels(section.end - section.begin, section.pixels);
      channels.each([&](std::int64_t o, int o_size) {
        pixels.each([&](std::int64_t j, int j_size) {
          const std::int64_t at = section.begin + j, col = cols.first + at * cols.step;
          tiles.at[o_size][j_size](
              c, {x0 + col * kWidth, col, taps, taps + run, deep.end - deep.begin, per_plane, per_plane - run,
                  w + o * c.w_o, start ? start + o : nullptr, y0 + o * c.y_c + at * cols.y});
        });
      });
    }
  }
}

// ---- weight gradients ----------------------------------------------------------------------------------
// Weight gradients of one batch-interleaved block. A tile sums lane by lane (one sum per image) over a strip
// of rows of dy that stays in L1; at the end the lanes that hold images are folded, so nothing else can
// enter.
// The taps that one tile takes side by side, and the pixels at which they lie inside x.
struct Run {
  std::int64_t first;    // tap, in its row
  int count;             // columns of the tile
  std::int64_t step;     // columns of x between them; 0: input channels at one tap
  Range inside;          // output columns at which all lie inside
  std::int64_t per_row;  // pixels per row at which all do
  std::int64_t border;   // and only some do

  Run(const IlWeights& c, std::int64_t index) : first(index), count(1), step(0) {
    const IlAxis& a = c.axis[2];
    if (c.by_taps) {
      const Parts parts(a.taps, c.columns);
      first = index * parts.size + (index < parts.larger ? index : parts.larger);
      count = parts.at(index), step = a.tap_step;
    }
    inside = Range::outputs(a, first, count);
    per_row = inside.end - inside.begin;
    border = step ? a.out - per_row : 0;  // one tap is inside or not
  }
  std::int64_t pixels(const IlWeights& c) const { return c.strip * (per_row + border); }
};

std::int64_t run_count(const IlWeights& c) {
  return c.by_taps ? ceil_div(c.axis[2].taps, c.columns) : c.axis[2].taps;
}
// Floats of a channel.
std::int64_t x_channel(const IlWeights& c) { return c.axis[0].in * c.axis[1].in * c.axis[2].in * kWidth; }
std::int64_t dy_channel(const IlWeights& c) { return c.axis[0].out * c.axis[1].out * c.axis[2].out * kWidth; }
std::int64_t taps_of(const IlWeights& c) { return c.axis[0].taps * c.axis[1].taps * c.axis[2].taps; }

// dw tile: channels o of dy, columns k of x at x + k * x_k. x and dy point at the strip's first pixel.
struct WeightsTile {
  const float* x;
  std::ptrdiff_t x_k;
  std::int64_t tap_step;
  const IlPixel *pixel, *end, *border, *border_end;
  const float* dy;  // [channels][od][oh][ow][B]
  float* sums;      // [channels][sums_o]: lane sums
  std::ptrdiff_t sums_o, sums_k;
  bool first;  // start at zero
};

// kUnit: columns are neighbouring taps.
template <bool kUnit = false>
struct WeightsTiles {
  static constexpr int kRows = 8, kColumns = 6;
  static constexpr bool fits(int channels, int columns) {
    return channels * columns <= kConvSums && channels * columns + columns + 1 <= kRegisters;
  }

  template <int OT, int KT>
  static void tile(const IlWeights& c, const WeightsTile& t) {
    Vec acc[OT][KT];
    float* const sums = t.sums;
    const std::ptrdiff_t sums_o = t.sums_o, sums_k = t.sums_k;
    if (t.first)
      each_register<OT, KT>([&](int o, int k) { acc[o][k] = zero(); });
    else
      each_register<OT, KT>([&](int o, int k) { acc[o][k] = load(sums + o * sums_o + k * sums_k); });
    const std::ptrdiff_t x_k = kUnit ? kWidth : t.x_k, d_o = dy_channel(c);
    const float *const x = t.x, *const dy = t.dy;
    for (const IlPixel *p = t.pixel, *const end = t.end; p != end; ++p) {
      const float *const xp = x + p->x, *const d0 = dy + p->dy, *const d4 = d0 + 4 * d_o;
      Vec xv[KT];
#pragma GCC unroll 8
      for (int k = 0; k < KT; ++k) xv[k] = load(xp + k * x_k);
#pragma GCC unroll 8
      for (int o = 0; o < OT; ++o) {
        const Vec dv = load(o < 4 ? d0 + o * d_o : d4 + (o - 4) * d_o);
#pragma GCC unroll 8
        for (int k = 0; k < KT; ++k) acc[o][k] = fma(dv, xv[k], acc[o][k]);
      }
    }
    const std::int64_t in_w = c.axis[2].in, tap_step = t.tap_step;
    for (const IlPixel *p = t.border, *const end = t.border_end; p != end; ++p) {
      const float *const xp = x + p->x, *const d0 = dy + p->dy, *const d4 = d0 + 4 * d_o;
#pragma GCC unroll 8
      for (int k = 0; k < KT; ++k) {
        const std::int64_t column = p->column + k * tap_step;
        if (static_cast<std::uint64_t>(column) >= static_cast<std::uint64_t>(in_w)) continue;
        const Vec xv = load(xp + k * x_k);
#pragma GCC unroll 8
        for (int o = 0; o < OT; ++o)
          acc[o][k] = fma(load(o < 4 ? d0 + o * d_o : d4 + (o - 4) * d_o), xv, acc[o][k]);
      }
    }
    each_register<OT, KT>([&](int o, int k) { store(sums + o * sums_o + k * sums_k, acc[o][k]); });
  }
};

constexpr decltype(make_tiles<WeightsTiles<>>()) kWeightsTiles[2] = {make_tiles<WeightsTiles<false>>(),
                                                                     make_tiles<WeightsTiles<true>>()};

// All taps and input channels of one tile of output channels over one strip of dy's rows in a plane. Input
// channels go outermost: their rows are in L1 for all taps.
void strip(const IlWeights& c, const float* x, const float* dy, std::int64_t o0, int channels,
           std::int64_t plane, std::int64_t i0, std::int64_t i1, float* sums) {
  const IlAxis &planes = c.axis[0], &height = c.axis[1], &cols = c.axis[2];
  const std::int64_t taps = taps_of(c), runs = run_count(c);
  const Parts inputs(c.ic, c.by_taps ? 1 : c.columns);
  WeightsTile t{};
  t.dy = dy + o0 * dy_channel(c) + (plane * height.out + i0) * cols.out * kWidth;
  t.sums_o = c.ic * taps * kWidth;
  t.first = plane == 0 && i0 == 0;
  const IlPixel* pixels = c.table;
  for (std::int64_t q = 0; q < runs; ++q) {
    const Run run(c, q);
    t.tap_step = run.step;
    t.x_k = c.by_taps ? cols.tap_step * kWidth : x_channel(c);
    t.sums_k = c.by_taps ? kWidth : taps * kWidth;
    const IlPixel* const border = pixels + c.strip * run.per_row;
    const auto& tiles = kWeightsTiles[c.by_taps && cols.tap_step == 1].at[channels];
    inputs.each([&](std::int64_t ch, int columns) {
      const auto tile = tiles[c.by_taps ? run.count : columns];
      for (std::int64_t d = 0; d < planes.taps; ++d)
        for (std::int64_t r = 0; r < height.taps; ++r) {
          const std::int64_t x_plane = planes.first + plane * planes.step + d * planes.tap_step;
          const std::int64_t row = height.first + i0 * height.step + r * height.tap_step;
          Range rows;  // of the strip, whose tap row lies inside x
          if (x_plane >= 0 && x_plane < planes.in) rows = Range(row, height.step, height.in, i1 - i0);
          t.pixel = pixels + rows.begin * run.per_row, t.end = pixels + rows.end * run.per_row;
          t.border = border + rows.begin * run.border, t.border_end = border + rows.end * run.border;
          t.x = x + ch * x_channel(c) +
                ((x_plane * height.in + row) * cols.in + cols.first + run.first * cols.tap_step) * kWidth;
          t.sums = sums + (ch * taps + (d * height.taps + r) * cols.taps + run.first) * kWidth;
          tile(c, t);
        }
    });
    pixels += run.pixels(c);
  }
}

// dy: n pixels.
void add_bias(const float* dy, std::int64_t n, float* sums) {
  Vec s[4] = {load(sums), zero(), zero(), zero()};
  std::int64_t j = 0;
  for (; j + 4 <= n; j += 4)
    for (int u = 0; u < 4; ++u) s[u] += load(dy + (j + u) * kWidth);
  for (; j < n; ++j) s[0] += load(dy + j * kWidth);
  store(sums, (s[0] + s[1]) + (s[2] + s[3]));
}

// out[i] += sum over the first `valid` lanes of sums[i].
void fold(const float* sums, std::int64_t n, int valid, float* out) {
  for (std::int64_t i = 0; i < n; i += kWidth) {
    const int there = lanes_of(n - i);
    Vec v[kWidth];
    if (there == kWidth && valid == kWidth) {
#pragma GCC unroll 16
      for (int k = 0; k < kWidth; ++k) v[k] = load(sums + (i + k) * kWidth);
    } else {
      for (int k = 0; k < kWidth; ++k) v[k] = load_first(sums + (i + k) * kWidth, k < there ? valid : 0);
    }
    store_first(out + i, load_first(out + i, there) + reduce_add_each(v), there);
  }
}

void plan_weights(IlWeights* c) {
  const IlAxis &height = c->axis[1], &cols = c->axis[2];
  // Taps of a row share x's cache lines; narrow kernels take several input channels at one tap instead.
  c->by_taps = cols.taps >= 3;
  const std::int64_t across = c->by_taps ? cols.taps : c->ic;
  const TileShape best = best_tile<WeightsTiles<>>(c->oc, across);
  c->channels = best.rows, c->columns = best.columns;
  constexpr std::int64_t kStripFloats = 32 * 1024 / 4;  // most of L1
  c->strip = kStripFloats / (c->channels * cols.out * kWidth);
  if (c->strip < 1) c->strip = 1;
  if (c->strip > height.out) c->strip = height.out;
  c->pixels = c->strip * cols.out * run_count(*c);
  c->work = c->channels * (c->ic * taps_of(*c) + 1) * kWidth;
}

void fill_pixels(const IlWeights& c, IlPixel* table) {
  const IlAxis &rows = c.axis[1], &cols = c.axis[2];
  for (std::int64_t index = 0; index < run_count(c); ++index) {
    const Run run(c, index);
    const auto add = [&](std::int64_t i, std::int64_t j) {
      *table++ = {static_cast<std::int32_t>((i * rows.step * cols.in + j * cols.step) * kWidth),
                  static_cast<std::int32_t>((i * cols.out + j) * kWidth),
                  static_cast<std::int32_t>(cols.first + run.first * cols.tap_step + j * cols.step)};
    };
    for (std::int64_t i = 0; i < c.strip; ++i)
      for (std::int64_t j = run.inside.begin; j < run.inside.end; ++j) add(i, j);
    if (run.border == 0) continue;
    for (std::int64_t i = 0; i < c.strip; ++i)
      for (std::int64_t j = 0; j < cols.out; ++j)
        if (j < run.inside.begin || j >= run.inside.end) add(i, j);
  }
}

void conv_weights(const IlWeights& c, const float* x, const float* dy, int valid, float* work, float* dw,
                  float* db) {
  const IlAxis &rows = c.axis[1], &cols = c.axis[2];
  const Parts channels(c.oc, c.channels);
  const std::int64_t taps = c.ic * taps_of(c);
  float* const bias = work + c.channels * taps * kWidth;
  channels.each([&](std::int64_t o, int n) {
    for (int k = 0; k < n; ++k) store(bias + k * kWidth, zero());
    for (std::int64_t plane = 0; plane < c.axis[0].out; ++plane)
      for (std::int64_t i = 0; i < rows.out; i += c.strip) {
        const std::int64_t end = i + c.strip < rows.out ? i + c.strip : rows.out;
        const float* const d = dy + o * dy_channel(c) + (plane * rows.out + i) * cols.out * kWidth;
        if (db)
          for (int k = 0; k < n; ++k)
            add_bias(d + k * dy_channel(c), (end - i) * cols.out, bias + k * kWidth);
        if (dw) strip(c, x, dy, o, n, plane, i, end, work);
      }
    if (dw) fold(work, n * taps, valid, dw + o * taps);
    if (db) fold(bias, n, valid, db + o);
  });
}

}  // namespace

extern const InterleavedKernels kInterleaved = {plan, conv_rows, plan_weights, fill_pixels, conv_weights};

}  // namespace fastcnn::FASTCNN_ISA

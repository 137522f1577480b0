// Weight gradients of one batch-interleaved block. A tile sums lane by lane (one sum per image) over a strip
// of rows of dy that stays in L1; at the end the lanes that hold images are folded, so nothing else can
// enter.
#include "kernels/generic/conv/interleaved_parts.h"

namespace fastcnn {
namespace FASTCNN_ISA {
namespace {

constexpr int kMaxChannels = 8, kMaxColumns = 6;

constexpr bool fits(int channels, int columns) {
  return channels * columns <= kConvSums && channels * columns + columns + 1 <= kRegisters;
}

// The taps that one tile takes side by side, and the pixels at which they lie inside x.
struct Run {
  std::int64_t first;    // tap, in its row
  int count;             // columns of the tile
  std::int64_t step;     // columns of x between them; 0: input channels at one tap
  Range inside;          // output columns at which all lie inside
  std::int64_t per_row;  // pixels per row at which all do
  std::int64_t border;   // and only some do

  Run(const IlWeights& c, std::int64_t index) : first(index), count(1), step(0) {
    if (c.by_taps) {
      const Parts parts(c.kw, c.columns);
      first = index * parts.size + (index < parts.larger ? index : parts.larger);
      count = parts.at(index), step = c.dw;
    }
    const std::int64_t low = first * c.dw - c.pl, high = low + (count - 1) * c.dw;
    inside.begin = Range(low, c.sw, c.iw, c.ow).begin;
    inside.end = Range(high, c.sw, c.iw, c.ow).end;
    if (inside.begin > inside.end) inside.begin = inside.end;
    per_row = inside.end - inside.begin;
    border = step ? c.ow - per_row : 0;  // one tap is inside or not
  }
  std::int64_t pixels(const IlWeights& c) const { return c.strip * (per_row + border); }
};

std::int64_t run_count(const IlWeights& c) { return c.by_taps ? ceil_div(c.kw, c.columns) : c.kw; }

// dw tile: channels o of dy, columns k of x at x + k * x_k. x and dy point at the strip's first pixel.
struct Tile {
  const float* x;
  std::ptrdiff_t x_k;
  std::int64_t tap_step;
  const IlPixel *pixel, *end, *border, *border_end;
  const float* dy;  // [channels][oh][ow][B]
  float* sums;      // [channels][sums_o]: lane sums
  std::ptrdiff_t sums_o, sums_k;
  bool first;  // start at zero
};

// kUnit: columns are neighbouring taps.
template <int OT, int KT, bool kUnit>
void weights_tile(const IlWeights& c, const Tile& t) {
  Vec acc[OT][KT];
  float* const sums = t.sums;
  const std::ptrdiff_t sums_o = t.sums_o, sums_k = t.sums_k;
  if (t.first) {
#pragma GCC unroll 8
    for (int o = 0; o < OT; ++o)
#pragma GCC unroll 8
      for (int k = 0; k < KT; ++k) acc[o][k] = zero();
  } else {
#pragma GCC unroll 8
    for (int o = 0; o < OT; ++o)
#pragma GCC unroll 8
      for (int k = 0; k < KT; ++k) acc[o][k] = load(sums + o * sums_o + k * sums_k);
  }
  const std::ptrdiff_t x_k = kUnit ? kWidth : t.x_k, d_o = c.oh * c.ow * kWidth;
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
  const std::int64_t in_w = c.iw, tap_step = t.tap_step;
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
#pragma GCC unroll 8
  for (int o = 0; o < OT; ++o)
#pragma GCC unroll 8
    for (int k = 0; k < KT; ++k) store(sums + o * sums_o + k * sums_k, acc[o][k]);
}

using TileFn = void (*)(const IlWeights&, const Tile&);

struct TileTable {
  TileFn at[kMaxChannels + 1][kMaxColumns + 1];
};

template <bool kUnit, int OT, int KT>
constexpr void fill(TileTable& t) {
  if constexpr (fits(OT, KT)) t.at[OT][KT] = weights_tile<OT, KT, kUnit>;
  if constexpr (KT < kMaxColumns)
    fill<kUnit, OT, KT + 1>(t);
  else if constexpr (OT < kMaxChannels)
    fill<kUnit, OT + 1, 1>(t);
}

template <bool kUnit>
constexpr TileTable make_table() {
  TileTable t{};
  fill<kUnit, 1, 1>(t);
  return t;
}

constexpr TileTable kTiles[2] = {make_table<false>(), make_table<true>()};

// All taps and input channels of one tile of output channels over one strip of dy's rows. Input channels go
// outermost: their rows are in L1 for all taps.
void strip(const IlWeights& c, const float* x, const float* dy, std::int64_t o0, int channels,
           std::int64_t i0, std::int64_t i1, float* sums) {
  const std::int64_t plane = c.ih * c.iw * kWidth, taps = c.kh * c.kw, runs = run_count(c);
  const Parts inputs(c.ic, c.by_taps ? 1 : c.columns);
  Tile t{};
  t.dy = dy + (o0 * c.oh + i0) * c.ow * kWidth;
  t.sums_o = c.ic * taps * kWidth;
  t.first = i0 == 0;
  const IlPixel* pixels = c.table;
  for (std::int64_t q = 0; q < runs; ++q) {
    const Run run(c, q);
    t.tap_step = run.step;
    t.x_k = c.by_taps ? c.dw * kWidth : plane;
    t.sums_k = c.by_taps ? kWidth : taps * kWidth;
    const IlPixel* const border = pixels + c.strip * run.per_row;
    const TileFn* const tiles = kTiles[c.by_taps && c.dw == 1].at[channels];
    std::int64_t ch = 0;
    for (std::int64_t b = 0; b < inputs.count; ch += inputs.at(b), ++b) {
      const TileFn tile = tiles[c.by_taps ? run.count : inputs.at(b)];
      for (std::int64_t r = 0; r < c.kh; ++r) {
        const std::int64_t row = r * c.dh - c.pt;
        Range rows(row + i0 * c.sh, c.sh, c.ih, i1 - i0);  // of the strip, whose tap row lies inside x
        t.pixel = pixels + rows.begin * run.per_row, t.end = pixels + rows.end * run.per_row;
        t.border = border + rows.begin * run.border, t.border_end = border + rows.end * run.border;
        t.x = x + ch * plane + ((row + i0 * c.sh) * c.iw + run.first * c.dw - c.pl) * kWidth;
        t.sums = sums + (ch * taps + r * c.kw + run.first) * kWidth;
        tile(c, t);
      }
    }
    pixels += run.pixels(c);
  }
}

void add_bias(const IlWeights& c, const float* dy, std::int64_t i0, std::int64_t i1, float* sums) {
  const float* const d = dy + i0 * c.ow * kWidth;
  const std::int64_t n = (i1 - i0) * c.ow;
  Vec s[4] = {load(sums), zero(), zero(), zero()};
  std::int64_t j = 0;
  for (; j + 4 <= n; j += 4)
    for (int u = 0; u < 4; ++u) s[u] += load(d + (j + u) * kWidth);
  for (; j < n; ++j) s[0] += load(d + j * kWidth);
  store(sums, (s[0] + s[1]) + (s[2] + s[3]));
}

// out[i] += sum over the first `valid` lanes of sums[i].
void fold(const float* sums, std::int64_t n, int valid, float* out) {
  for (std::int64_t i = 0; i < n; i += kWidth) {
    const int there = static_cast<int>(n - i < kWidth ? n - i : kWidth);
    Vec v[kWidth];
    if (there == kWidth && valid == kWidth) {
#pragma GCC unroll 16
      for (int k = 0; k < kWidth; ++k) v[k] = load(sums + (i + k) * kWidth);
    } else {
      for (int k = 0; k < kWidth; ++k) v[k] = k < there ? load_n(sums + (i + k) * kWidth, valid) : zero();
    }
    store_n(out + i, load_n(out + i, there) + reduce_add_each(v), there);
  }
}

}  // namespace

void il_plan_weights(IlWeights* c) {
  // Taps of a row share x's cache lines; narrow kernels take several input channels at one tap instead.
  c->by_taps = c->kw >= 3;
  const std::int64_t across = c->by_taps ? c->kw : c->ic;
  double least = 0;
  for (int o = 1; o <= kMaxChannels && o <= c->oc; ++o)
    for (int k = 1; k <= kMaxColumns && k <= across; ++k) {
      if (!fits(o, k)) continue;
      const double t = tiled_time(Parts(c->oc, o), Parts(across, k));
      if (least == 0 || t < least) least = t, c->channels = o, c->columns = k;
    }
  constexpr std::int64_t kStripFloats = 32 * 1024 / 4;  // most of L1
  c->strip = kStripFloats / (c->channels * c->ow * kWidth);
  if (c->strip < 1) c->strip = 1;
  if (c->strip > c->oh) c->strip = c->oh;
  c->pixels = c->strip * c->ow * run_count(*c);
  c->work = c->channels * (c->ic * c->kh * c->kw + 1) * kWidth;
}

void il_fill_pixels(const IlWeights& c, IlPixel* table) {
  for (std::int64_t index = 0; index < run_count(c); ++index) {
    const Run run(c, index);
    const auto add = [&](std::int64_t i, std::int64_t j) {
      *table++ = {static_cast<std::int32_t>((i * c.sh * c.iw + j * c.sw) * kWidth),
                  static_cast<std::int32_t>((i * c.ow + j) * kWidth),
                  static_cast<std::int32_t>(run.first * c.dw - c.pl + j * c.sw)};
    };
    for (std::int64_t i = 0; i < c.strip; ++i)
      for (std::int64_t j = run.inside.begin; j < run.inside.end; ++j) add(i, j);
    if (run.border == 0) continue;
    for (std::int64_t i = 0; i < c.strip; ++i)
      for (std::int64_t j = 0; j < c.ow; ++j)
        if (j < run.inside.begin || j >= run.inside.end) add(i, j);
  }
}

void il_conv_weights(const IlWeights& c, const float* x, const float* dy, int valid, float* work, float* dw,
                     float* db) {
  const Parts channels(c.oc, c.channels);
  const std::int64_t taps = c.ic * c.kh * c.kw, plane = c.oh * c.ow * kWidth;
  float* const bias = work + c.channels * taps * kWidth;
  std::int64_t o = 0;
  for (std::int64_t a = 0; a < channels.count; o += channels.at(a), ++a) {
    const int n = channels.at(a);
    for (int k = 0; k < n; ++k) store(bias + k * kWidth, zero());
    for (std::int64_t i = 0; i < c.oh; i += c.strip) {
      const std::int64_t end = i + c.strip < c.oh ? i + c.strip : c.oh;
      if (db)
        for (int k = 0; k < n; ++k) add_bias(c, dy + (o + k) * plane, i, end, bias + k * kWidth);
      if (dw) strip(c, x, dy, o, n, i, end, work);
    }
    if (dw) fold(work, n * taps, valid, dw + o * taps);
    if (db) fold(bias, n, valid, db + o);
  }
}

}  // namespace FASTCNN_ISA
}  // namespace fastcnn

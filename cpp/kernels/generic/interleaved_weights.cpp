// Weight gradients of one batch-interleaved block. A tile sums lane by lane (one sum per image) over a strip
// of rows of dy that stays in L1; at the end the lanes that hold images are folded, so nothing else can
// enter.
#include "kernels/generic/interleaved_parts.h"

namespace fastcnn {
namespace FASTCNN_ISA {
namespace {

constexpr int kMaxChannels = 8, kMaxColumns = 6;

constexpr bool fits(int channels, int columns) {
  return channels * columns <= kConvSums && channels * columns + columns + 1 <= kRegisters;
}

// dw tile: channels o of dy at `dy`, columns k of x at x + k * x_k (taps of one row, or input channels).
struct Tile {
  const float* x;      // at input row and column of output pixel (0, 0), tap row r, first column's tap
  std::ptrdiff_t x_k;  // floats between columns
  std::int64_t col, tap_step;  // input column of output column 0; input columns between taps (0: channels)
  Range rows;                  // output rows of the strip whose tap row lies inside x
  Range inside;                // output columns at which every column's tap lies inside
  const float* dy;             // [channels][oh][ow][B]
  float* sums;                 // [channels][sums_o]: lane sums
  std::ptrdiff_t sums_o, sums_k;
  bool first;  // start at zero
};

template <int OT, int KT>
FASTCNN_INLINE void add_pixel(Vec (&acc)[OT][KT], const float* xp, std::ptrdiff_t x_k, const float* const* d,
                              std::ptrdiff_t d_o) {
  Vec xv[KT];
#pragma GCC unroll 8
  for (int k = 0; k < KT; ++k) xv[k] = load(xp + k * x_k);
#pragma GCC unroll 8
  for (int o = 0; o < OT; ++o) {
    const Vec dv = load(d[o / 4] + (o % 4) * d_o);
#pragma GCC unroll 8
    for (int k = 0; k < KT; ++k) acc[o][k] = fma(dv, xv[k], acc[o][k]);
  }
}

// A pixel at which only some columns' taps lie inside x.
template <int OT, int KT>
FASTCNN_INLINE void add_border_pixel(Vec (&acc)[OT][KT], const float* xp, const Tile& t, std::int64_t col,
                                     std::int64_t in_w, const float* const* d, std::ptrdiff_t d_o) {
#pragma GCC unroll 8
  for (int k = 0; k < KT; ++k) {
    const std::int64_t at = col + k * t.tap_step;
    if (static_cast<std::uint64_t>(at) >= static_cast<std::uint64_t>(in_w)) continue;
    const Vec xv = load(xp + k * t.x_k);
#pragma GCC unroll 8
    for (int o = 0; o < OT; ++o) acc[o][k] = fma(load(d[o / 4] + (o % 4) * d_o), xv, acc[o][k]);
  }
}

// kUnit: columns are neighbouring taps.
template <int OT, int KT, bool kUnit>
void weights_tile(const IlWeights& c, const Tile& t) {
  Vec acc[OT][KT];
#pragma GCC unroll 8
  for (int o = 0; o < OT; ++o)
#pragma GCC unroll 8
    for (int k = 0; k < KT; ++k) acc[o][k] = t.first ? zero() : load(t.sums + o * t.sums_o + k * t.sums_k);
  const std::ptrdiff_t x_k = kUnit ? kWidth : t.x_k, step = c.sw * kWidth, d_o = c.oh * c.ow * kWidth;
  const std::int64_t in_w = c.iw, sw = c.sw;
  constexpr int kGroups = (OT + 3) / 4;
  for (std::int64_t i = t.rows.begin; i < t.rows.end; ++i) {
    const float* xp = t.x + i * c.sh * in_w * kWidth;
    const float* d[kGroups];
#pragma GCC unroll 2
    for (int g = 0; g < kGroups; ++g) d[g] = t.dy + i * c.ow * kWidth + 4 * g * d_o;
    const auto next = [&] {
      xp += step;
#pragma GCC unroll 2
      for (int g = 0; g < kGroups; ++g) d[g] += kWidth;
    };
    std::int64_t j = 0;
    for (; j < t.inside.begin; ++j, next())
      add_border_pixel<OT, KT>(acc, xp, t, t.col + j * sw, in_w, d, d_o);
    for (; j < t.inside.end; ++j, next()) add_pixel<OT, KT>(acc, xp, x_k, d, d_o);
    if (t.tap_step)  // else one tap: nothing lies inside beyond
      for (; j < c.ow; ++j, next()) add_border_pixel<OT, KT>(acc, xp, t, t.col + j * sw, in_w, d, d_o);
  }
#pragma GCC unroll 8
  for (int o = 0; o < OT; ++o)
#pragma GCC unroll 8
    for (int k = 0; k < KT; ++k) store(t.sums + o * t.sums_o + k * t.sums_k, acc[o][k]);
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

// All taps (or input channels) of one tile of output channels over one strip of dy's rows.
void strip(const IlWeights& c, const float* x, const float* dy, std::int64_t o0, int channels,
           std::int64_t i0, std::int64_t i1, float* sums) {
  const std::int64_t plane = c.ih * c.iw * kWidth, taps = c.kh * c.kw;
  Tile t{};
  t.dy = dy + o0 * c.oh * c.ow * kWidth;
  t.sums_o = c.ic * taps * kWidth;
  t.first = i0 == 0;
  const Parts columns(c.by_taps ? c.kw : c.ic, c.columns);
  for (std::int64_t r = 0; r < c.kh; ++r) {
    const std::int64_t row = r * c.dh - c.pt;
    t.rows = Range(row, c.sh, c.ih, c.oh);
    if (t.rows.begin < i0) t.rows.begin = i0;
    if (t.rows.end > i1) t.rows.end = i1;
    if (c.by_taps) {
      t.tap_step = c.dw, t.x_k = c.dw * kWidth, t.sums_k = kWidth;
      std::int64_t q = 0;
      for (std::int64_t b = 0; b < columns.count; q += columns.at(b), ++b) {
        const int kt = columns.at(b);
        t.col = q * c.dw - c.pl;
        t.inside.begin = Range(t.col, c.sw, c.iw, c.ow).begin;
        t.inside.end = Range(t.col + (kt - 1) * c.dw, c.sw, c.iw, c.ow).end;
        if (t.inside.begin > t.inside.end) t.inside.begin = t.inside.end;
        const TileFn tile = kTiles[c.dw == 1].at[channels][kt];
        for (std::int64_t ch = 0; ch < c.ic; ++ch) {
          t.x = x + ch * plane + (row * c.iw + t.col) * kWidth;
          t.sums = sums + (ch * taps + r * c.kw + q) * kWidth;
          tile(c, t);
        }
      }
    } else {
      t.tap_step = 0, t.x_k = plane, t.sums_k = taps * kWidth;
      for (std::int64_t q = 0; q < c.kw; ++q) {
        t.col = q * c.dw - c.pl;
        t.inside = Range(t.col, c.sw, c.iw, c.ow);
        std::int64_t ch = 0;
        for (std::int64_t b = 0; b < columns.count; ch += columns.at(b), ++b) {
          t.x = x + ch * plane + (row * c.iw + t.col) * kWidth;
          t.sums = sums + (ch * taps + r * c.kw + q) * kWidth;
          kTiles[0].at[channels][columns.at(b)](c, t);
        }
      }
    }
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
  constexpr std::int64_t kStripFloats = 16 * 1024 / 4;  // a third of L1
  c->strip = kStripFloats / (c->channels * c->ow * kWidth);
  if (c->strip < 1) c->strip = 1;
  if (c->strip > c->oh) c->strip = c->oh;
  c->work = c->channels * (c->ic * c->kh * c->kw + 1) * kWidth;
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

// Pooling, vectorised over channels. Which pixels a window holds comes from tables, so padding, ceil mode and
// adaptive windows need no code here.
#include "kernels/pool.h"

#include "kernels/generic/math.h"
#include "kernels/simd/simd.h"

namespace fastcnn {
namespace FASTCNN_ISA {
namespace {

struct Full {  // all lanes
  FASTCNN_INLINE Vec get(const float* p) const { return load(p); }
  FASTCNN_INLINE void put(float* p, Vec v) const { store(p, v); }
  FASTCNN_INLINE IVec get_index(const std::uint8_t* p) const { return load_u8(p); }
  FASTCNN_INLINE void put_index(std::uint8_t* p, IVec v) const { store_u8(p, v); }
  FASTCNN_INLINE IVec get_index(const std::int32_t* p) const { return bits(load((const float*)p)); }
  FASTCNN_INLINE void put_index(std::int32_t* p, IVec v) const { store((float*)p, bits(v)); }
};

struct Some {  // the first n lanes: the channels' tail
  int n;
  FASTCNN_INLINE Vec get(const float* p) const { return load_n(p, n); }
  FASTCNN_INLINE void put(float* p, Vec v) const { store_n(p, v, n); }
  FASTCNN_INLINE IVec get_index(const std::uint8_t* p) const {
    std::uint8_t t[kWidth] = {};
    for (int i = 0; i < n; ++i) t[i] = p[i];
    return load_u8(t);
  }
  FASTCNN_INLINE void put_index(std::uint8_t* p, IVec v) const {
    std::uint8_t t[kWidth];
    store_u8(t, v);
    for (int i = 0; i < n; ++i) p[i] = t[i];
  }
  FASTCNN_INLINE IVec get_index(const std::int32_t* p) const { return bits(load_n((const float*)p, n)); }
  FASTCNN_INLINE void put_index(std::int32_t* p, IVec v) const { store_n((float*)p, bits(v), n); }
};

// f(first channel, lanes) over all channels. kOne: there are exactly kWidth (a batch-interleaved block).
template <bool kOne = false, class F>
FASTCNN_INLINE void each_channels(std::int64_t c, F&& f) {
  if constexpr (kOne) return f(0, Full{});
  std::int64_t k = 0;
  for (; k + kWidth <= c; k += kWidth) f(k, Full{});
  if (k < c) f(k, Some{(int)(c - k)});
}

// f<V>(first channel, lanes): V vectors at a time, so that walking the windows costs less.
template <bool kOne, class F>
FASTCNN_INLINE void each_run(std::int64_t c, F&& f) {
  if constexpr (kOne) return f.template run<1>(0, Full{});
  std::int64_t k = 0;
  for (; k + 4 * kWidth <= c; k += 4 * kWidth) f.template run<4>(k, Full{});
  for (; k + kWidth <= c; k += kWidth) f.template run<1>(k, Full{});
  if (k < c) f.template run<1>(k, Some{(int)(c - k)});
}

void zero_channels(float* p, std::int64_t n) {
  each_channels(n, [&](std::int64_t k, auto lanes) { lanes.put(p + k, zero()); });
}

FASTCNN_INLINE std::int32_t size_of(const PoolWindow& w) { return w.end - w.begin; }

// ---- max
// ---------------------------------------------------------------------------------------------------

struct Best {
  Vec value;
  IVec tap;

  template <bool kIndex>
  FASTCNN_INLINE void take(Vec v, std::int32_t at) {
    if constexpr (kIndex) {
      const IVec better = (v > value) | (v != v);
      value = select(better, v, value);
      tap = select(better, IVec{} + at, tap);
    } else {
      value = select(value != value, value, vmax(value, v));
    }
  }
};

// A window of KH x KW pixels, or of any size where those are 0. x: its first pixel inside the image, `first`
// that pixel's tap.
template <int KH, int KW, bool kIndex, class Lanes>
FASTCNN_INLINE Best best_of(const float* x, std::int64_t row, std::int64_t c, std::int32_t rows,
                            std::int32_t cols, std::int32_t first, std::int32_t kw, Lanes lanes) {
  Best best{broadcast(-__builtin_inff()), IVec{} + first};
  if constexpr (KH > 0) {
#pragma GCC unroll 4
    for (int i = 0; i < KH; ++i)
#pragma GCC unroll 4
      for (int j = 0; j < KW; ++j) best.template take<kIndex>(lanes.get(x + i * row + j * c), i * KW + j);
  } else {
    for (std::int32_t i = 0; i < rows; ++i)
      for (std::int32_t j = 0; j < cols; ++j)
        best.template take<kIndex>(lanes.get(x + i * row + j * c), first + i * kw + j);
  }
  return best;
}

template <bool kOne, bool kIndex, int KH, int KW, class Index>
FASTCNN_INLINE void max_pixel(const PoolParams& p, const PoolWindow& r, const PoolWindow& w, const float* x,
                              float* y, Index* index) {
  const std::int64_t c = kOne ? kWidth : p.c, row = p.iw * c;
  const std::int32_t tap = (r.begin - r.origin) * p.kw + (w.begin - w.origin);
  const float* const first = x + r.begin * row + w.begin * c;
  each_channels<kOne>(c, [&](std::int64_t k, auto lanes) {
    const Best b = best_of<KH, KW, kIndex>(first + k, row, c, size_of(r), size_of(w), tap, p.kw, lanes);
    lanes.put(y + k, b.value);
    if constexpr (kIndex) lanes.put_index(index + k, b.tap);
  });
}

template <bool kOne, bool kIndex, int KH, int KW, class Index>
void max_row(const PoolParams& p, const PoolWindow& r, const float* x, float* y, Index* index) {
  const std::int64_t c = kOne ? kWidth : p.c;
  for (std::int64_t ow = 0; ow < p.ow; ++ow) {
    const PoolWindow& w = p.cols[ow];
    Index* const to = kIndex ? index + ow * c : nullptr;
    if (KW > 0 && size_of(w) == KW)
      max_pixel<kOne, kIndex, KH, KW>(p, r, w, x, y + ow * c, to);
    else
      max_pixel<kOne, kIndex, 0, 0>(p, r, w, x, y + ow * c, to);
  }
}

template <bool kOne, bool kIndex, class Index>
void max_rows_of(const PoolParams& p, const float* x, float* y, Index* index, std::int64_t oh0,
                 std::int64_t oh1) {
  for (std::int64_t oh = oh0; oh < oh1; ++oh) {
    const PoolWindow& r = p.rows[oh];
    const std::int64_t at = oh * p.ow * p.c;
    Index* const to = kIndex ? index + at : nullptr;
    if (p.kh == 2 && p.kw == 2 && size_of(r) == 2)
      max_row<kOne, kIndex, 2, 2>(p, r, x, y + at, to);
    else if (p.kh == 3 && p.kw == 3 && size_of(r) == 3)
      max_row<kOne, kIndex, 3, 3>(p, r, x, y + at, to);
    else
      max_row<kOne, kIndex, 0, 0>(p, r, x, y + at, to);
  }
}

template <class Index>
void max_rows_with(const PoolParams& p, const float* x, float* y, Index* index, std::int64_t oh0,
                   std::int64_t oh1) {
  if (p.c == kWidth)
    index ? max_rows_of<true, true>(p, x, y, index, oh0, oh1)
          : max_rows_of<true, false>(p, x, y, index, oh0, oh1);
  else
    index ? max_rows_of<false, true>(p, x, y, index, oh0, oh1)
          : max_rows_of<false, false>(p, x, y, index, oh0, oh1);
}

void max_rows(const PoolParams& p, const float* x, float* y, void* index, std::int64_t oh0,
              std::int64_t oh1) {
  if (p.wide_index)
    max_rows_with(p, x, y, (std::int32_t*)index, oh0, oh1);
  else
    max_rows_with(p, x, y, (std::uint8_t*)index, oh0, oh1);
}

// ---- gradients of windows that lie side by side
// ------------------------------------------------------------------

// Where the gradient goes: into dx, after the activation before the pooling.
template <Act kAct>
struct Sink {
  const float* y;
  float* dx;

  template <class Lanes>
  FASTCNN_INLINE void put(float* at, Vec g, Lanes lanes) const {
    if constexpr (kAct == Act::kNone)
      lanes.put(at, g);
    else
      lanes.put(at, activate_grad<kAct>(g, lanes.get(y + (at - dx))));
  }
};

// Input rows [ih, ih + rows), which lie in one row of windows (or in none): share(window's first value, first
// tap) gives a functor that makes the vector of pixel (row, column) of the window.
template <bool kOne, int KH, int KW, class Window, class Into>
FASTCNN_INLINE void spread_rows(const PoolParams& p, Into sink, std::int64_t ih, std::int64_t rows,
                                const Window& window) {
  const std::int64_t c = kOne ? kWidth : p.c, row = p.iw * c;
  const PoolCover rc = p.row_cover[ih];
  float* const to = sink.dx + ih * row;
  if (rc.begin == rc.end) return zero_channels(to, rows * row);
  const auto gap = [&](std::int64_t from, std::int64_t end) {
    for (std::int64_t r = 0; from < end && r < rows; ++r)
      zero_channels(to + r * row + from * c, (end - from) * c);
  };
  const PoolWindow& rw = p.rows[rc.begin];
  std::int64_t iw = 0;
  for (std::int64_t ow = 0; ow < p.ow; ++ow) {
    const PoolWindow& w = p.cols[ow];
    gap(iw, w.begin);
    iw = w.end;
    const std::int32_t tap = ((std::int32_t)ih - rw.origin) * p.kw + (w.begin - w.origin);
    each_channels<kOne>(c, [&](std::int64_t k, auto lanes) {
      const auto pixel = window((rc.begin * p.ow + ow) * c + k, rw.count * w.count, lanes);
      float* const at = to + w.begin * c + k;
      if (KH > 0 && size_of(w) == KW) {
#pragma GCC unroll 4
        for (int i = 0; i < KH; ++i)
#pragma GCC unroll 4
          for (int j = 0; j < KW; ++j) sink.put(at + i * row + j * c, pixel(tap + i * p.kw + j), lanes);
      } else {
        for (std::int32_t i = 0; i < rows; ++i)
          for (std::int32_t j = 0; j < size_of(w); ++j)
            sink.put(at + i * row + j * c, pixel(tap + i * p.kw + j), lanes);
      }
    });
  }
  gap(iw, p.iw);
}

template <class Window, class Into>
void spread_into(const PoolParams& p, Into sink, std::int64_t ih0, std::int64_t ih1, const Window& window) {
  for (std::int64_t ih = ih0; ih < ih1;) {
    const PoolCover rc = p.row_cover[ih];
    const std::int64_t end = rc.begin == rc.end ? ih + 1 : p.rows[rc.begin].end;
    const std::int64_t rows = (end < ih1 ? end : ih1) - ih;
    if (p.c == kWidth && rows == 2)
      spread_rows<true, 2, 2>(p, sink, ih, rows, window);
    else if (p.c == kWidth)
      spread_rows<true, 0, 0>(p, sink, ih, rows, window);
    else
      spread_rows<false, 0, 0>(p, sink, ih, rows, window);
    ih += rows;
  }
}

template <class Window>
void spread(const PoolParams& p, Act act, const float* y, float* dx, std::int64_t ih0, std::int64_t ih1,
            const Window& window) {
  with_act(act, [&](auto kind) { spread_into(p, Sink<decltype(kind)::value>{y, dx}, ih0, ih1, window); });
}

template <class Index>
struct MaxWindow {
  const float* dy;
  const Index* index;

  template <class Lanes>
  FASTCNN_INLINE auto operator()(std::int64_t at, std::int32_t, Lanes lanes) const {
    const Vec g = lanes.get(dy + at);
    const IVec best = lanes.get_index(index + at);
    return [g, best](std::int32_t tap)
               __attribute__((always_inline)) { return select(best == tap, g, zero()); };
  }
};

struct AverageWindow {
  const float* dy;

  template <class Lanes>
  FASTCNN_INLINE auto operator()(std::int64_t at, std::int32_t count, Lanes lanes) const {
    const Vec share = lanes.get(dy + at) * broadcast(1.0f / (float)count);
    return [share](std::int32_t) __attribute__((always_inline)) { return share; };
  }
};

// ---- gradients of overlapping windows: each pixel gathers
// ---------------------------------------------------------

template <class Index>
struct MaxGather {
  const PoolParams& p;
  const float* dy;
  const Index* index;
  float* to;
  std::int64_t ih, iw;
  PoolCover rows, cols;

  template <int V, class Lanes>
  FASTCNN_INLINE void run(std::int64_t k, Lanes lanes) const {
    Vec sum[V] = {};
    for (std::int64_t oh = rows.begin; oh < rows.end; ++oh) {
      const std::int32_t tap_row = (std::int32_t)(ih - p.rows[oh].origin) * p.kw + (std::int32_t)iw;
      for (std::int64_t ow = cols.begin; ow < cols.end; ++ow) {
        const std::int64_t at = (oh * p.ow + ow) * p.c + k;
        const std::int32_t tap = tap_row - p.cols[ow].origin;
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) {
          const IVec hit = lanes.get_index(index + at + v * kWidth) == tap;
          sum[v] += select(hit, lanes.get(dy + at + v * kWidth), zero());
        }
      }
    }
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) lanes.put(to + k + v * kWidth, sum[v]);
  }
};

struct AverageGather {
  const PoolParams& p;
  const float* dy;
  float* to;
  PoolCover rows, cols;

  template <int V, class Lanes>
  FASTCNN_INLINE void run(std::int64_t k, Lanes lanes) const {
    Vec sum[V] = {};
    for (std::int64_t oh = rows.begin; oh < rows.end; ++oh)
      for (std::int64_t ow = cols.begin; ow < cols.end; ++ow) {
        const float* const from = dy + (oh * p.ow + ow) * p.c + k;
        const Vec share = broadcast(1.0f / (float)(p.rows[oh].count * p.cols[ow].count));
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) sum[v] = fma(lanes.get(from + v * kWidth), share, sum[v]);
      }
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) lanes.put(to + k + v * kWidth, sum[v]);
  }
};

// f(ih, iw, the pixel in dx)
template <class F>
FASTCNN_INLINE void each_pixel(const PoolParams& p, float* dx, std::int64_t ih0, std::int64_t ih1, F&& f) {
  for (std::int64_t ih = ih0; ih < ih1; ++ih)
    for (std::int64_t iw = 0; iw < p.iw; ++iw) f(ih, iw, dx + (ih * p.iw + iw) * p.c);
}

template <class Index>
void max_grad_with(const PoolParams& p, const float* dy, const Index* index, Act act, const float* y,
                   float* dx, std::int64_t ih0, std::int64_t ih1) {
  if (p.tiled) return spread(p, act, y, dx, ih0, ih1, MaxWindow<Index>{dy, index});
  each_pixel(p, dx, ih0, ih1, [&](std::int64_t ih, std::int64_t iw, float* to) {
    each_run<false>(p.c, MaxGather<Index>{p, dy, index, to, ih, iw, p.row_cover[ih], p.col_cover[iw]});
  });
}

void max_grad_rows(const PoolParams& p, const float* dy, const void* index, Act act, const float* y,
                   float* dx, std::int64_t ih0, std::int64_t ih1) {
  if (p.wide_index)
    max_grad_with(p, dy, (const std::int32_t*)index, act, y, dx, ih0, ih1);
  else
    max_grad_with(p, dy, (const std::uint8_t*)index, act, y, dx, ih0, ih1);
}

void average_grad_rows(const PoolParams& p, const float* dy, Act act, const float* y, float* dx,
                       std::int64_t ih0, std::int64_t ih1) {
  if (p.tiled) return spread(p, act, y, dx, ih0, ih1, AverageWindow{dy});
  each_pixel(p, dx, ih0, ih1, [&](std::int64_t ih, std::int64_t iw, float* to) {
    each_run<false>(p.c, AverageGather{p, dy, to, p.row_cover[ih], p.col_cover[iw]});
  });
}

// ---- average
// -----------------------------------------------------------------------------------------------

// sum / count, by a product where that is exact.
FASTCNN_INLINE Vec mean_of(Vec sum, std::int32_t count) {
  if ((count & (count - 1)) == 0) return sum * broadcast(1.0f / (float)count);
  return sum / broadcast((float)count);
}

struct Average {
  const PoolParams& p;
  const PoolWindow &r, &w;
  const float* x;
  float* y;

  // Each row of the window is summed on its own, then the rows: long windows lose less that way.
  template <int V, class Lanes>
  FASTCNN_INLINE void run(std::int64_t k, Lanes lanes) const {
    Vec sum[V] = {};
    for (std::int32_t ih = r.begin; ih < r.end; ++ih) {
      Vec part[V] = {};
      const float* from = x + (ih * p.iw + w.begin) * p.c + k;
      for (std::int32_t iw = w.begin; iw < w.end; ++iw, from += p.c)
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) part[v] += lanes.get(from + v * kWidth);
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) sum[v] += part[v];
    }
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) lanes.put(y + k + v * kWidth, mean_of(sum[v], r.count * w.count));
  }
};

// 2 x 2 windows in an interleaved block: LeNet's.
FASTCNN_INLINE void average_2x2(const PoolParams& p, const PoolWindow& r, const PoolWindow& w, const float* x,
                                float* y) {
  const float* const a = x + (r.begin * p.iw + w.begin) * kWidth;
  const float* const b = a + p.iw * kWidth;
  store(y, mean_of((load(a) + load(a + kWidth)) + (load(b) + load(b + kWidth)), r.count * w.count));
}

void average_rows(const PoolParams& p, const float* x, float* y, std::int64_t oh0, std::int64_t oh1) {
  for (std::int64_t oh = oh0; oh < oh1; ++oh) {
    const PoolWindow& r = p.rows[oh];
    const bool two = p.c == kWidth && size_of(r) == 2;
    for (std::int64_t ow = 0; ow < p.ow; ++ow) {
      const PoolWindow& w = p.cols[ow];
      float* const to = y + (oh * p.ow + ow) * p.c;
      if (two && size_of(w) == 2)
        average_2x2(p, r, w, x, to);
      else
        each_run<false>(p.c, Average{p, r, w, x, to});
    }
  }
}

}  // namespace

extern const PoolKernels kPool;
const PoolKernels kPool = {max_rows, average_rows, max_grad_rows, average_grad_rows};

}  // namespace FASTCNN_ISA
}  // namespace fastcnn

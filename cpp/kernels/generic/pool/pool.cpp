// Pooling, vectorised over channels. Which pixels a window holds comes from tables, so padding, ceil mode and
// adaptive windows need no code here.
#include "kernels/pool.h"

#include "kernels/generic/functions.h"
#include "kernels/generic/lanes.h"

namespace fastcnn::FASTCNN_ISA {
namespace {

// f(first channel, lanes) over all channels. kOne: there are exactly kWidth (a batch-interleaved block).
template <bool kOne, class F>
FASTCNN_INLINE void each_channels(std::int64_t c, F&& f) {
  if constexpr (kOne)
    f(0, Full{});
  else
    for_lanes(c, f);
}

// f<V>(first channel, lanes): V vectors at a time, so that walking the windows costs less.
template <class F>
FASTCNN_INLINE void each_run(std::int64_t c, F&& f) {
  std::int64_t k = 0;
  for (; k + 4 * kWidth <= c; k += 4 * kWidth) f.template run<4>(k, Full{});
  for (; k + kWidth <= c; k += kWidth) f.template run<1>(k, Full{});
  if (k < c) f.template run<1>(k, Some{(int)(c - k)});
}

bool one_vector(const PoolParams& p) { return p.c == kWidth && p.x.pixel == kWidth && p.y.pixel == kWidth; }

FASTCNN_INLINE std::int32_t size_of(const PoolWindow& w) { return w.end - w.begin; }

// Row r0 and those after it, counted through planes of `rows`: f(plane, row).
template <class F>
FASTCNN_INLINE void each_row(std::int64_t rows, std::int64_t r0, std::int64_t r1, F&& f) {
  std::int64_t plane = r0 / rows, row = r0 % rows;
  for (std::int64_t r = r0; r < r1; ++r) {
    f(plane, row);
    if (++row == rows) row = 0, ++plane;
  }
}

// What the windows of one output row have in common.
struct WindowRow {
  std::int32_t planes, rows;  // of the input, inside a window
  std::int32_t count;         // its part of the divisor
  std::int32_t tap;           // of input row (id, ih) in the column where a window starts
};
template <bool kFlat = false>
FASTCNN_INLINE WindowRow window_row(const PoolParams& p, std::int64_t od, std::int64_t oh, std::int64_t id,
                                    std::int64_t ih) {
  const PoolWindow d = kFlat ? PoolWindow{0, 1, 0, 1} : p.depth.windows[od], &r = p.rows.windows[oh];
  const auto plane = kFlat ? 0 : ((std::int32_t)id - d.origin) * p.rows.kernel;
  return {size_of(d), size_of(r), d.count * r.count, (plane + ((std::int32_t)ih - r.origin)) * p.cols.kernel};
}

// f(its windows' common part, their first row inside x, the row's offset in y) for output rows [r0, r1).
template <class F>
FASTCNN_INLINE void each_window_row(const PoolParams& p, const float* x, std::int64_t r0, std::int64_t r1,
                                    F&& f) {
  each_row(p.rows.out, r0, r1, [&](std::int64_t od, std::int64_t oh) {
    const std::int32_t id = p.depth.windows[od].begin, ih = p.rows.windows[oh].begin;
    f(window_row(p, od, oh, id, ih), x + id * p.x.plane + ih * p.x.row, od * p.y.plane + oh * p.y.row);
  });
}

// ---- max -----------------------------------------------------------------------------------------------

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
      value = larger(value, v);
    }
  }
};

struct NoIndex {};  // where nobody wants one
template <class Index>
constexpr bool kIsIndex = !__is_empty(Index);

// A whole window of KH x KW pixels in one plane, or of any size where those are 0. x: its first pixel inside
// the image, `first` that pixel's tap.
template <int KH, int KW, bool kIndex, class Lanes>
FASTCNN_INLINE Best best_of(const PoolParams& p, const WindowRow& r, std::int32_t cols, std::int32_t first,
                            const float* x, std::int64_t pixel, Lanes lanes) {
  Best best{broadcast(-__builtin_inff()), IVec{} + first};
  if constexpr (KH > 0) {
#pragma GCC unroll 4
    for (int i = 0; i < KH; ++i)
#pragma GCC unroll 4
      for (int j = 0; j < KW; ++j)
        best.template take<kIndex>(load_first(x + i * p.x.row + j * pixel, lanes), i * KW + j);
  } else {
    for (std::int32_t k = 0; k < r.planes; ++k)
      for (std::int32_t i = 0; i < r.rows; ++i) {
        const float* const row = x + k * p.x.plane + i * p.x.row;
        const std::int32_t tap = first + (k * p.rows.kernel + i) * p.cols.kernel;
        for (std::int32_t j = 0; j < cols; ++j)
          best.template take<kIndex>(load_first(row + j * pixel, lanes), tap + j);
      }
  }
  return best;
}

template <bool kOne, int KH, int KW, class Index>
FASTCNN_INLINE void max_pixel(const PoolParams& p, const WindowRow& r, const PoolWindow& w, const float* x,
                              float* y, Index* index) {
  const std::int64_t pixel = kOne ? kWidth : p.x.pixel;
  const std::int32_t first = KH > 0 ? 0 : r.tap + (w.begin - w.origin);
  each_channels<kOne>(p.c, [&](std::int64_t k, auto lanes) {
    const Best b =
        best_of<KH, KW, kIsIndex<Index>>(p, r, size_of(w), first, x + w.begin * pixel + k, pixel, lanes);
    store_first(y + k, b.value, lanes);
    if constexpr (kIsIndex<Index>) store_first(index + k, b.tap, lanes);
  });
}

template <bool kOne, int KH, int KW, class Index>
void max_row(const PoolParams& p, const WindowRow& r, const float* x, float* y, Index* index) {
  for (std::int64_t ow = 0; ow < p.cols.out; ++ow) {
    const PoolWindow& w = p.cols.windows[ow];
    float* const to = y + ow * (kOne ? kWidth : p.y.pixel);
    Index* const tap = kIsIndex<Index> ? index + ow * (kOne ? kWidth : p.c) : nullptr;
    if (KW > 0 && size_of(w) == KW)
      max_pixel<kOne, KH, KW>(p, r, w, x, to, tap);
    else
      max_pixel<kOne, 0, 0>(p, r, w, x, to, tap);
  }
}

template <bool kOne, class Index>
void max_rows_of(const PoolParams& p, const float* x, float* y, Index* index, std::int64_t r0,
                 std::int64_t r1) {
  Index* taps = kIsIndex<Index> ? index + r0 * p.cols.out * p.c : nullptr;
  each_window_row(p, x, r0, r1, [&](const WindowRow& r, const float* from, std::int64_t to) {
    const auto is = [&](std::int32_t side) {
      return p.depth.kernel == 1 && p.rows.kernel == side && p.cols.kernel == side && r.rows == side;
    };
    if (is(2))
      max_row<kOne, 2, 2>(p, r, from, y + to, taps);
    else if (is(3))
      max_row<kOne, 3, 3>(p, r, from, y + to, taps);
    else
      max_row<kOne, 0, 0>(p, r, from, y + to, taps);
    if constexpr (kIsIndex<Index>) taps += p.cols.out * p.c;
  });
}

void max_rows(const PoolParams& p, const float* x, float* y, void* index, std::int64_t r0, std::int64_t r1) {
  const auto run = [&](auto* taps) {
    one_vector(p) ? max_rows_of<true>(p, x, y, taps, r0, r1) : max_rows_of<false>(p, x, y, taps, r0, r1);
  };
  if (!index)
    run((NoIndex*)nullptr);
  else if (p.wide_index)
    run((std::int32_t*)index);
  else
    run((std::uint8_t*)index);
}

// ---- gradients of windows that lie side by side --------------------------------------------------------

// Where the gradient goes: into dx, after the function before the pooling.
template <class Fn>
struct Sink {
  const Fn& fn;
  const float* v;
  float* dx;

  template <class Lanes>
  FASTCNN_INLINE void put(float* at, Vec g, Lanes lanes) const {
    if constexpr (!kIdentity<Fn>) g = fn.gradient(g, load_first(v + (at - dx), lanes));
    store_first(at, g, lanes);
  }
};

void zero_pixels(const PoolParams& p, float* to, std::int64_t pixels) {
  const bool slice = p.x.pixel != p.c;
  for (std::int64_t i = 0; i < (slice ? pixels : 1); ++i)
    for_lanes(slice ? p.c : pixels * p.c,
              [&](std::int64_t k, auto lanes) { store_first(to + i * p.x.pixel + k, zero(), lanes); });
}

// Input rows [ih, ih + rows) of plane id, which lie in one row of windows (or in none): share(the window's
// first value, its first index, its count, lanes) gives a functor that makes the vector of each tap.
template <bool kOne, int KH, int KW, class Share, class Into>
FASTCNN_INLINE void spread_rows(const PoolParams& p, Into sink, std::int64_t id, std::int64_t ih,
                                std::int64_t rows, const Share& share) {
  const std::int64_t pixel = kOne ? kWidth : p.x.pixel, row = p.x.row;
  const PoolCover dc = p.depth.cover[id], rc = p.rows.cover[ih];
  float* const to = sink.dx + id * p.x.plane + ih * row;
  const auto gap = [&](std::int64_t from, std::int64_t end) {
    for (std::int64_t r = 0; from < end && r < rows; ++r)
      zero_pixels(p, to + r * row + from * pixel, end - from);
  };
  if (dc.begin == dc.end || rc.begin == rc.end) return gap(0, p.cols.in);
  const WindowRow common = window_row(p, dc.begin, rc.begin, id, ih);
  const std::int64_t c = kOne ? kWidth : p.c, kw = p.cols.kernel;
  std::int64_t y = dc.begin * p.y.plane + rc.begin * p.y.row, iw = 0;
  std::int64_t index = (dc.begin * p.rows.out + rc.begin) * p.cols.out * c;
  for (std::int64_t ow = 0; ow < p.cols.out; ++ow, y += kOne ? kWidth : p.y.pixel, index += c) {
    const PoolWindow w = p.cols.windows[ow];
    gap(iw, w.begin);
    iw = w.end;
    const std::int32_t tap = common.tap + (w.begin - w.origin);
    each_channels<kOne>(c, [&](std::int64_t k, auto lanes) {
      const auto make = share(y + k, index + k, common.count * w.count, lanes);
      float* const at = to + w.begin * pixel + k;
      if (KH > 0 && size_of(w) == KW) {
#pragma GCC unroll 4
        for (int i = 0; i < KH; ++i)
#pragma GCC unroll 4
          for (int j = 0; j < KW; ++j) sink.put(at + i * row + j * pixel, make(tap + i * kw + j), lanes);
      } else {
        for (std::int32_t i = 0; i < rows; ++i)
          for (std::int32_t j = 0; j < size_of(w); ++j)
            sink.put(at + i * row + j * pixel, make(tap + i * kw + j), lanes);
      }
    });
  }
  gap(iw, p.cols.in);
}

template <class Share>
void spread(const PoolParams& p, const Function& f, const float* v, float* dx, std::int64_t r0,
            std::int64_t r1, const Share& share) {
  const bool one = one_vector(p);
  with_function(f, [&](auto fn) __attribute__((always_inline)) {
    const Sink<decltype(fn)> sink{fn, v, dx};
    std::int64_t id = r0 / p.rows.in, ih = r0 % p.rows.in;
    for (std::int64_t left = r1 - r0; left > 0;) {
      const PoolCover rc = p.rows.cover[ih];
      const std::int64_t end = rc.begin == rc.end ? ih + 1 : p.rows.windows[rc.begin].end;
      const std::int64_t rows = end - ih < left ? end - ih : left;
      if (one && rows == 2)
        spread_rows<true, 2, 2>(p, sink, id, ih, rows, share);
      else if (one)
        spread_rows<true, 0, 0>(p, sink, id, ih, rows, share);
      else
        spread_rows<false, 0, 0>(p, sink, id, ih, rows, share);
      left -= rows, ih += rows;
      if (ih == p.rows.in) ih = 0, ++id;
    }
  });
}

template <class Index>
struct MaxShare {
  const float* dy;
  const Index* index;

  template <class Lanes>
  FASTCNN_INLINE auto operator()(std::int64_t y, std::int64_t at, std::int32_t, Lanes lanes) const {
    const Vec g = load_first(dy + y, lanes);
    const IVec best = load_first(index + at, lanes);
    return [g, best](std::int32_t tap)
               __attribute__((always_inline)) { return select(best == tap, g, zero()); };
  }
};

struct AverageShare {
  const float* dy;

  template <class Lanes>
  FASTCNN_INLINE auto operator()(std::int64_t y, std::int64_t, std::int32_t count, Lanes lanes) const {
    const Vec share = load_first(dy + y, lanes) * broadcast(1.0f / (float)count);
    return [share](std::int32_t) __attribute__((always_inline)) { return share; };
  }
};

// ---- gradients of overlapping windows: each pixel gathers ----------------------------------------------

// An input pixel and the windows that hold it. kFlat: there is no depth, which spares a loop.
template <bool kFlat, class Share>
struct Gather {
  const PoolParams& p;
  const Share& share;
  std::int32_t id, ih;
  PoolCover planes, rows, cols;
  std::int32_t iw;
  float* to;

  template <int V, class Lanes>
  FASTCNN_INLINE void run(std::int64_t k, Lanes lanes) const {
    Vec sum[V] = {};
    for (std::int64_t od = kFlat ? 0 : planes.begin; od < (kFlat ? 1 : planes.end); ++od)
      for (std::int64_t oh = rows.begin; oh < rows.end; ++oh) {
        const WindowRow row = window_row<kFlat>(p, od, oh, id, ih);
        std::int64_t at = (od * p.rows.out + oh) * p.cols.out + cols.begin;
        for (std::int64_t ow = cols.begin; ow < cols.end; ++ow, ++at) {
          const PoolWindow& w = p.cols.windows[ow];
#pragma GCC unroll 4
          for (int v = 0; v < V; ++v)
            sum[v] += share(at * p.y.pixel + k + v * kWidth, at * p.c + k + v * kWidth, row.count * w.count,
                            lanes)(row.tap + (iw - w.origin));
        }
      }
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) store_first(to + k + v * kWidth, sum[v], lanes);
  }
};

template <bool kFlat, class Share>
void gather(const PoolParams& p, float* dx, std::int64_t r0, std::int64_t r1, const Share& share) {
  each_row(p.rows.in, r0, r1, [&](std::int64_t id, std::int64_t ih) {
    Gather<kFlat, Share> pixel{p,
                               share,
                               (std::int32_t)id,
                               (std::int32_t)ih,
                               p.depth.cover[id],
                               p.rows.cover[ih],
                               {},
                               0,
                               dx + id * p.x.plane + ih * p.x.row};
    for (; pixel.iw < p.cols.in; ++pixel.iw, pixel.to += p.x.pixel) {
      pixel.cols = p.cols.cover[pixel.iw];
      each_run(p.c, pixel);
    }
  });
}

template <class Share>
void gradient(const PoolParams& p, const Function& f, const float* v, float* dx, std::int64_t r0,
              std::int64_t r1, const Share& share) {
  if (p.tiled) return spread(p, f, v, dx, r0, r1, share);
  const bool flat = p.depth.in == 1 && p.depth.out == 1 && p.depth.kernel == 1;
  flat ? gather<true>(p, dx, r0, r1, share) : gather<false>(p, dx, r0, r1, share);
}

void grad_rows(const PoolParams& p, const float* dy, const void* index, const Function& f, const float* v,
               float* dx, std::int64_t r0, std::int64_t r1) {
  if (!index)
    gradient(p, f, v, dx, r0, r1, AverageShare{dy});
  else if (p.wide_index)
    gradient(p, f, v, dx, r0, r1, MaxShare<std::int32_t>{dy, (const std::int32_t*)index});
  else
    gradient(p, f, v, dx, r0, r1, MaxShare<std::uint8_t>{dy, (const std::uint8_t*)index});
}

// ---- average -------------------------------------------------------------------------------------------

// sum / count, by a product where that is exact.
FASTCNN_INLINE Vec mean_of(Vec sum, std::int32_t count) {
  if ((count & (count - 1)) == 0) return sum * broadcast(1.0f / (float)count);
  return sum / broadcast((float)count);
}

struct Average {
  const PoolParams& p;
  const WindowRow& r;
  std::int32_t cols, count;
  const float* x;  // the window's first pixel inside the image
  float* y;

  // Each row of the window is summed on its own, then the rows: long windows lose less that way.
  template <int V, class Lanes>
  FASTCNN_INLINE void run(std::int64_t k, Lanes lanes) const {
    const std::int64_t pixel = p.x.pixel;
    Vec sum[V] = {};
    for (std::int32_t id = 0; id < r.planes; ++id)
      for (std::int32_t ih = 0; ih < r.rows; ++ih) {
        Vec part[V] = {};
        const float* from = x + id * p.x.plane + ih * p.x.row + k;
        for (std::int32_t iw = 0; iw < cols; ++iw, from += pixel)
#pragma GCC unroll 4
          for (int v = 0; v < V; ++v) part[v] += load_first(from + v * kWidth, lanes);
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) sum[v] += part[v];
      }
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) store_first(y + k + v * kWidth, mean_of(sum[v], count), lanes);
  }
};

// 2 x 2 windows in an interleaved block: LeNet's.
FASTCNN_INLINE void average_2x2(const PoolParams& p, std::int32_t count, const float* a, float* y) {
  const float* const b = a + p.x.row;
  store(y, mean_of((load(a) + load(a + kWidth)) + (load(b) + load(b + kWidth)), count));
}

void average_rows(const PoolParams& p, const float* x, float* y, std::int64_t r0, std::int64_t r1) {
  const bool one = one_vector(p);
  each_window_row(p, x, r0, r1, [&](const WindowRow& r, const float* from, std::int64_t to) {
    const bool two = one && r.planes == 1 && r.rows == 2;
    for (std::int64_t ow = 0; ow < p.cols.out; ++ow, to += p.y.pixel) {
      const PoolWindow& w = p.cols.windows[ow];
      const float* const first = from + w.begin * p.x.pixel;
      if (two && size_of(w) == 2)
        average_2x2(p, r.count * w.count, first, y + to);
      else
        each_run(p.c, Average{p, r, size_of(w), r.count * w.count, first, y + to});
    }
  });
}

}  // namespace

extern const PoolKernels kPool = {max_rows, average_rows, grad_rows};

}  // namespace fastcnn::FASTCNN_ISA

// Pooling, vectorised over channels. Which pixels a window holds comes from tables, so padding, ceil mode and
// adaptive windows need no code here.
#include "kernels/pool.h"

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

// f(first channel, lanes) over all channels.
template <class F>
FASTCNN_INLINE void each_channels(std::int64_t c, F&& f) {
  std::int64_t k = 0;
  for (; k + kWidth <= c; k += kWidth) f(k, Full{});
  if (k < c) f(k, Some{(int)(c - k)});
}

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

// A window of KH x KW pixels, or of any size where those are 0. x: the window's first pixel inside the image.
template <int KH, int KW, bool kIndex, class Lanes>
FASTCNN_INLINE Best best_of(const float* x, std::int64_t row, std::int64_t c, std::int32_t rows,
                            std::int32_t cols, std::int32_t tap, std::int32_t kw, Lanes lanes) {
  Best best{broadcast(-__builtin_inff()), IVec{} + tap};
  if constexpr (KH > 0) {
#pragma GCC unroll 4
    for (int i = 0; i < KH; ++i)
#pragma GCC unroll 4
      for (int j = 0; j < KW; ++j) best.template take<kIndex>(lanes.get(x + i * row + j * c), i * KW + j);
  } else {
    for (std::int32_t i = 0; i < rows; ++i)
      for (std::int32_t j = 0; j < cols; ++j)
        best.template take<kIndex>(lanes.get(x + i * row + j * c), tap + i * kw + j);
  }
  return best;
}

template <int KH, int KW, class Index>
FASTCNN_INLINE void max_pixel(const PoolParams& p, const PoolWindow& r, const PoolWindow& w, const float* x,
                              float* y, Index* index) {
  const std::int64_t row = p.iw * p.c;
  const std::int32_t tap = (r.begin - r.origin) * p.kw + (w.begin - w.origin);
  const float* const first = x + r.begin * row + w.begin * p.c;
  each_channels(p.c, [&](std::int64_t k, auto lanes) {
    if (index) {
      const Best b =
          best_of<KH, KW, true>(first + k, row, p.c, r.end - r.begin, w.end - w.begin, tap, p.kw, lanes);
      lanes.put(y + k, b.value);
      lanes.put_index(index + k, b.tap);
    } else {
      const Best b =
          best_of<KH, KW, false>(first + k, row, p.c, r.end - r.begin, w.end - w.begin, tap, p.kw, lanes);
      lanes.put(y + k, b.value);
    }
  });
}

template <int KH, int KW, class Index>
void max_rows_of(const PoolParams& p, const float* x, float* y, Index* index, std::int64_t oh0,
                 std::int64_t oh1) {
  for (std::int64_t oh = oh0; oh < oh1; ++oh) {
    const PoolWindow& r = p.rows[oh];
    const bool whole_row = KH > 0 && r.end - r.begin == KH;
    for (std::int64_t ow = 0; ow < p.ow; ++ow) {
      const PoolWindow& w = p.cols[ow];
      const std::int64_t at = (oh * p.ow + ow) * p.c;
      Index* const to = index ? index + at : nullptr;
      if (whole_row && w.end - w.begin == KW)
        max_pixel<KH, KW>(p, r, w, x, y + at, to);
      else
        max_pixel<0, 0>(p, r, w, x, y + at, to);
    }
  }
}

template <class Index>
void max_rows_with(const PoolParams& p, const float* x, float* y, Index* index, std::int64_t oh0,
                   std::int64_t oh1) {
  if (p.kh == 2 && p.kw == 2) return max_rows_of<2, 2>(p, x, y, index, oh0, oh1);
  if (p.kh == 3 && p.kw == 3) return max_rows_of<3, 3>(p, x, y, index, oh0, oh1);
  max_rows_of<0, 0>(p, x, y, index, oh0, oh1);
}

void max_rows(const PoolParams& p, const float* x, float* y, void* index, std::int64_t oh0,
              std::int64_t oh1) {
  if (p.wide_index)
    max_rows_with(p, x, y, (std::int32_t*)index, oh0, oh1);
  else
    max_rows_with(p, x, y, (std::uint8_t*)index, oh0, oh1);
}

void zero_channels(float* p, std::int64_t n) {
  each_channels(n, [&](std::int64_t k, auto lanes) { lanes.put(p + k, zero()); });
}

// Windows side by side: an input pixel lies in one window or in none.
template <class Index>
FASTCNN_INLINE void max_grad_tiled(const PoolParams& p, const float* dy, const Index* index, float* dx,
                                   std::int64_t ih) {
  const PoolCover rc = p.row_cover[ih];
  float* const to = dx + ih * p.iw * p.c;
  if (rc.begin == rc.end) return zero_channels(to, p.iw * p.c);
  const std::int32_t tap_row = ((std::int32_t)ih - p.rows[rc.begin].origin) * p.kw;
  std::int64_t iw = 0;
  for (std::int64_t ow = 0; ow < p.ow; ++ow) {
    const PoolWindow& w = p.cols[ow];
    if (iw < w.begin) zero_channels(to + iw * p.c, (w.begin - iw) * p.c);
    const std::int64_t at = (rc.begin * p.ow + ow) * p.c;
    const std::int32_t tap = tap_row - w.origin;
    each_channels(p.c, [&](std::int64_t k, auto lanes) {
      const Vec g = lanes.get(dy + at + k);
      const IVec best = lanes.get_index(index + at + k);
      for (std::int32_t i = w.begin; i < w.end; ++i)
        lanes.put(to + i * p.c + k, select(best == tap + i, g, zero()));
    });
    iw = w.end;
  }
  if (iw < p.iw) zero_channels(to + iw * p.c, (p.iw - iw) * p.c);
}

template <class Index>
FASTCNN_INLINE void max_grad_overlapping(const PoolParams& p, const float* dy, const Index* index, float* dx,
                                         std::int64_t ih) {
  const PoolCover rc = p.row_cover[ih];
  for (std::int64_t iw = 0; iw < p.iw; ++iw) {
    const PoolCover cc = p.col_cover[iw];
    each_channels(p.c, [&](std::int64_t k, auto lanes) {
      Vec sum = zero();
      for (std::int64_t oh = rc.begin; oh < rc.end; ++oh) {
        const std::int32_t tap_row = ((std::int32_t)ih - p.rows[oh].origin) * p.kw + (std::int32_t)iw;
        for (std::int64_t ow = cc.begin; ow < cc.end; ++ow) {
          const std::int64_t at = (oh * p.ow + ow) * p.c + k;
          const IVec hit = lanes.get_index(index + at) == tap_row - p.cols[ow].origin;
          sum += select(hit, lanes.get(dy + at), zero());
        }
      }
      lanes.put(dx + (ih * p.iw + iw) * p.c + k, sum);
    });
  }
}

template <class Index>
void max_grad_with(const PoolParams& p, const float* dy, const Index* index, float* dx, std::int64_t ih0,
                   std::int64_t ih1) {
  for (std::int64_t ih = ih0; ih < ih1; ++ih) {
    if (p.tiled)
      max_grad_tiled(p, dy, index, dx, ih);
    else
      max_grad_overlapping(p, dy, index, dx, ih);
  }
}

void max_grad_rows(const PoolParams& p, const float* dy, const void* index, float* dx, std::int64_t ih0,
                   std::int64_t ih1) {
  if (p.wide_index)
    max_grad_with(p, dy, (const std::int32_t*)index, dx, ih0, ih1);
  else
    max_grad_with(p, dy, (const std::uint8_t*)index, dx, ih0, ih1);
}

// sum / count, by a product where that is exact.
FASTCNN_INLINE Vec mean_of(Vec sum, std::int32_t count) {
  if ((count & (count - 1)) == 0) return sum * broadcast(1.0f / (float)count);
  return sum / broadcast((float)count);
}

// Each row of the window is summed on its own, then the rows: long windows lose less that way.
template <int V, class Lanes>
FASTCNN_INLINE void average_channels(const PoolParams& p, const PoolWindow& r, const PoolWindow& w,
                                     const float* x, float* y, Lanes lanes) {
  Vec sum[V] = {};
  for (std::int32_t ih = r.begin; ih < r.end; ++ih) {
    Vec part[V] = {};
    const float* from = x + (ih * p.iw + w.begin) * p.c;
    for (std::int32_t iw = w.begin; iw < w.end; ++iw, from += p.c)
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) part[v] += lanes.get(from + v * kWidth);
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) sum[v] += part[v];
  }
  const std::int32_t count = r.count * w.count;
#pragma GCC unroll 4
  for (int v = 0; v < V; ++v) lanes.put(y + v * kWidth, mean_of(sum[v], count));
}

void average_rows(const PoolParams& p, const float* x, float* y, std::int64_t oh0, std::int64_t oh1) {
  for (std::int64_t oh = oh0; oh < oh1; ++oh)
    for (std::int64_t ow = 0; ow < p.ow; ++ow) {
      const PoolWindow &r = p.rows[oh], &w = p.cols[ow];
      float* const to = y + (oh * p.ow + ow) * p.c;
      std::int64_t k = 0;
      for (; k + 4 * kWidth <= p.c; k += 4 * kWidth) average_channels<4>(p, r, w, x + k, to + k, Full{});
      for (; k + kWidth <= p.c; k += kWidth) average_channels<1>(p, r, w, x + k, to + k, Full{});
      if (k < p.c) average_channels<1>(p, r, w, x + k, to + k, Some{(int)(p.c - k)});
    }
}

void average_grad_rows(const PoolParams& p, const float* dy, float* dx, std::int64_t ih0, std::int64_t ih1) {
  for (std::int64_t ih = ih0; ih < ih1; ++ih) {
    const PoolCover rc = p.row_cover[ih];
    for (std::int64_t iw = 0; iw < p.iw; ++iw) {
      const PoolCover cc = p.col_cover[iw];
      float* const to = dx + (ih * p.iw + iw) * p.c;
      each_channels(p.c, [&](std::int64_t k, auto lanes) {
        Vec sum = zero();
        for (std::int64_t oh = rc.begin; oh < rc.end; ++oh)
          for (std::int64_t ow = cc.begin; ow < cc.end; ++ow)
            sum += mean_of(lanes.get(dy + (oh * p.ow + ow) * p.c + k), p.rows[oh].count * p.cols[ow].count);
        lanes.put(to + k, sum);
      });
    }
  }
}

}  // namespace

extern const PoolKernels kPool;
const PoolKernels kPool = {max_rows, average_rows, max_grad_rows, average_grad_rows};

}  // namespace FASTCNN_ISA
}  // namespace fastcnn

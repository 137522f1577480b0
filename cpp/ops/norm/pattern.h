// Values as the norm kernels see them: rows of a repeating pattern of channels, cut into parts of the sums
// and pieces of the elementwise passes.
#pragma once

#include <algorithm>
#include <vector>

#include "kernels/norm.h"
#include "ops/norm/batchnorm.h"

namespace fastcnn::ops {

// Some rows of a plane: what one call of a kernel takes.
struct Piece {
  std::int64_t plane;
  Part rows;
  NormRuns runs;
  std::int64_t index;  // among all parts, or pieces
};

// Channels-last values are one plane. Dense ones have rows of a whole period and a shorter last one; where an
// operand is a slice, every pixel is a row. Of batch-interleaved values every channel of a block is a plane,
// whose rows are its pixels.
class Pattern {
 public:
  explicit Pattern(const Problem& p);

  std::int64_t channels() const { return c_; }
  std::int64_t values() const { return n_ * pixels_; }  // of a channel
  // Whether a result as large as this is better stored past the cache.
  bool streams(const void* to) const { return streams_ && reinterpret_cast<std::uintptr_t>(to) % 64 == 0; }
  std::int64_t groups() const { return groups_; }
  // Operand i of a piece; none where i is -1.
  NormIn in(const RunArgs& a, int i, const Piece& piece) const {
    if (i < 0) return {};
    const Steps& s = in_[static_cast<std::size_t>(i)];
    return {floats(a.in[i]) + s.at(piece, c_), s.row};
  }
  NormOut out(const RunArgs& a, int i, const Piece& piece) const {
    if (i < 0) return {};
    const Steps& s = out_[static_cast<std::size_t>(i)];
    return {floats(a.out[i]) + s.at(piece, c_), s.row};
  }

  // A per-channel number at all its positions in a pattern of `pattern_floats()`.
  std::int64_t pattern_floats() const { return interleaved_ ? c_ * width_ : row_; }
  void put(float* to, std::int64_t c, float v) const {
    if (interleaved_) return void(std::fill_n(to + c * width_, width_, v));
    for (std::int64_t j = c; j < row_; j += c_) to[j] = v;
  }
  // Where the numbers of a piece start in it.
  std::int64_t at(const Piece& piece) const { return interleaved_ ? piece.plane % c_ * width_ : 0; }
  // One number per vector of the value.
  std::int64_t vectors() const { return planes_ * (rows_ + 1) * period_; }
  std::int64_t vector(const Piece& piece) const { return (piece.plane * rows_ + piece.rows.begin) * period_; }

  // Sums: two numbers per position and part.
  std::int64_t sum_floats() const { return 2 * planes_ * groups_ * row_; }
  std::int64_t sum_items() const { return ceil_div(planes_ * groups_, together_); }
  template <class F>  // f(piece, first, second)
  void each_part(std::int64_t item, float* sums, F&& f) const {
    each(item, groups_, [&](const Piece& p) {
      float* const part = sums + 2 * p.index * row_;
      f(p, part, part + row_);
    });
  }
  // f(values, first, second, step) for the parts of a channel: those of the next channels lie a step further.
  template <class F>
  void each_sum(std::int64_t c, const float* sums, F&& f) const {
    if (interleaved_) {
      for (std::int64_t image = 0; image < n_; ++image) {
        const float* const part = sums + 2 * (image / width_ * c_ + c) * width_ + image % width_;
        f(pixels_, part, part + width_, 2 * width_);
      }
      return;
    }
    for (std::int64_t g = 0; g < groups_ * planes_; ++g)
      for (std::int64_t j = c; j < row_values_; j += c_) {
        const float* const part = sums + 2 * g * row_ + j;
        f(part_of(rows_, groups_, g).size(), part, part + row_, std::int64_t{1});
      }
  }
  // f(offset) for the values of a channel of x that lie after the last whole row.
  template <class F>
  void each_rest(std::int64_t c, F&& f) const {
    for (std::int64_t j = c; j < rest_; j += c_) f(rows_ * row_ + j);
  }

  // Elementwise passes, backwards: what came before ended there, and that may still be near.
  std::int64_t items() const { return ceil_div(planes_ * pieces_, together_); }
  template <class F>
  void each_piece(std::int64_t item, F&& f) const {
    each(items() - 1 - item, pieces_, f);
  }

 private:
  struct Steps {
    std::int64_t block = 0, channel = 0, row = 0;
    std::int64_t at(const Piece& p, std::int64_t c) const {
      return p.plane / c * block + p.plane % c * channel + p.rows.begin * row;
    }
  };
  Steps steps_of(const TensorDesc& d) const;
  template <class F>
  void each(std::int64_t item, std::int64_t per_plane, F&& f) const {
    const std::int64_t end = std::min((item + 1) * together_, planes_ * per_plane);
    for (std::int64_t i = item * together_; i < end; ++i) {
      const Part rows = part_of(rows_, per_plane, i % per_plane);
      const std::int64_t floats = rows.size() * row_ + (rows.end == rows_ ? rest_ : 0);
      f(Piece{i / per_plane, rows, flat_ ? NormRuns{1, floats, period_} : NormRuns{rows.size(), c_, period_},
              i});
    }
  }

  bool interleaved_, flat_, streams_ = false;
  std::int64_t width_, c_, n_, pixels_;
  std::int64_t planes_, period_;          // vectors of a row
  std::int64_t row_, row_values_;         // floats of a row, and how many of them are values
  std::int64_t rows_, rest_ = 0;          // of a plane; rest: floats after the last whole row
  std::int64_t groups_ = 1, pieces_ = 1;  // of a plane
  std::int64_t together_ = 1;             // planes that make an item
  std::vector<Steps> in_, out_;
};

}  // namespace fastcnn::ops

// The geometry that the channels-last implementations share. A convolution is seen as `phases`: output pixels
// that meet the same taps. Forward has one; backward data has one per remainder of the stride, each a
// convolution of stride 1 over dy. Work goes plane by plane: a plane is one depth of one output image, and
// reads `patch[0]` planes of the input.
#pragma once

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "kernels/conv.h"
#include "kernels/table.h"
#include "ops/conv/epilogue.h"

namespace fastcnn::ops {

using ConvTap =
    std::array<std::int64_t, 3>;  // input position of the phase's first output, from the grid's corner

struct ConvPhase {
  std::array<std::int64_t, 3> first;  // output position; the next ones are grid.phase further
  std::vector<ConvTap> taps;          // in the order of the packed weights, which is the input's
  std::vector<int> indices;           // of the taps, in the weights of two channels
  std::int64_t taps_before = 0;       // of earlier phases
  // The taps in floats from the strip's first input, for whole blocks of input channels and for the last one:
  // each, and as runs of consecutive floats, which join where the channels between two are all read.
  std::vector<std::ptrdiff_t> offsets[2];
  std::vector<ConvRun> runs[2];
};

struct ConvGrid {
  std::int64_t n = 0, groups = 1;
  std::int64_t src[3] = {1, 1, 1}, src_c = 0, src_pixel = 0;  // what is read; src_pixel in floats
  std::int64_t out[3] = {1, 1, 1}, out_c = 0;                 // what is written (of weight gradients: dy)
  std::int64_t step[3] = {1, 1, 1};    // input positions between neighbouring outputs of a phase
  std::int64_t phase[3] = {1, 1, 1};   // output positions between them
  std::int64_t corner[3] = {0, 0, 0};  // input position where the first output's patch starts; may be < 0
  std::int64_t patch[3] = {1, 1, 1};   // input positions that one output (of all phases) spans
  std::int64_t taps = 0;               // of all phases
  bool padded = false;                 // some tap leaves the image
  std::int64_t pixels = 0;             // of a plane; fewer than rows times columns in a flattened grid
  std::vector<ConvPhase> phases;       // by depth, row, column

  std::int64_t src_group() const { return src_c / groups; }
  std::int64_t out_group() const { return out_c / groups; }
  std::int64_t planes() const { return n * out[0]; }
  std::int64_t first_pixel(std::int64_t plane, std::int64_t row) const {
    return (plane * out[1] + row) * out[2];
  }
  // The phases that an output plane has, by index.
  Part phases_of(std::int64_t plane) const {
    return part_of(static_cast<std::int64_t>(phases.size()), phase[0], plane % out[0] % phase[0]);
  }
  std::int64_t cols(std::int64_t row) const { return std::min(out[2], pixels - row * out[2]); }
  // Input positions under `outputs` neighbouring outputs.
  std::int64_t reach(int d, std::int64_t outputs) const {
    return (ceil_div(outputs, phase[d]) - 1) * step[d] + patch[d];
  }
};

// src: x, or (transposed) dy for the gradient of x.
ConvGrid conv_grid(const ConvParams& p, const TensorDesc& src, bool transposed = false);
// A 1x1 convolution without padding and stride is one matrix product: all images become one plane, with rows
// of `length`. Returns whether the grid could be flattened.
bool flatten_grid(ConvGrid& g, std::int64_t length);

// Floats between neighbours in what the kernels read.
struct ConvSteps {
  std::int64_t plane, row, pixel;
  std::int64_t of(const ConvTap& t) const { return t[0] * plane + t[1] * row + t[2] * pixel; }
};

// A rectangle of an output plane.
struct ConvStrip {
  std::int64_t plane, row0, row1, col0, col1;
  // Pixels in one of its rows; only the last row of a flattened grid is short.
  std::int64_t cols(const ConvGrid& g, std::int64_t row) const { return std::min(col1, g.cols(row)) - col0; }
};
struct ConvOutput {  // where a strip's rows go
  float* at;         // first pixel, first channel
  std::int64_t row, pixel;
};

// Channels cut into nearly equal blocks of at most `most`.
struct ChannelBlocks {
  std::int64_t c = 0, size = 0, count = 0;
  ChannelBlocks() = default;
  ChannelBlocks(std::int64_t channels, std::int64_t most)
      : c(channels), size(ceil_div(channels, ceil_div(channels, most))), count(ceil_div(channels, size)) {}
  std::int64_t begin(std::int64_t i) const { return i * size; }
  std::int64_t end(std::int64_t i) const { return std::min(c, begin(i) + size); }
  std::int64_t length(std::int64_t i) const { return end(i) - begin(i); }
  bool last(std::int64_t i) const { return i + 1 == count; }
};

// Output channels cut into blocks of two vectors, or of four where there are kernels for it and nothing is
// left over that would waste one; the last block takes as many vectors as it needs.
struct VectorBlocks : ChannelBlocks {
  std::int64_t width = 0;
  VectorBlocks() = default;
  VectorBlocks(std::int64_t channels, const KernelTable& k) : width(k.width) {
    const std::int64_t vectors = ceil_div(channels, width);
    c = channels, size = (k.conv->tile[4] && vectors >= 4 && vectors % 4 != 3 ? 4 : 2) * width;
    count = ceil_div(c, size);
  }
  int vectors(std::int64_t i) const { return static_cast<int>(ceil_div(length(i), width)); }
  std::int64_t lanes(std::int64_t i) const { return vectors(i) * width; }
  std::int64_t padded() const { return round_up(c, width); }
};

// A convolution that is carried out strip by strip. Planes are cut into nearly equal strips of rows. Where a
// plane is a single row (one spatial dimension) or rows are very long, one row of every phase is cut into
// strips of columns. Kernels read the image itself or, where taps leave it, a padded patch of it.
class StripConv : public Prepared {
 protected:
  StripConv(const Problem& p, bool transposed)
      : k_(*p.kernels().conv), c_(facts_of<ConvParams>(p)), grid_(conv_grid(c_, p.inputs[0], transposed)) {}

  // 2 where columns should be cut, for a row costs `row` of what a strip may.
  int axis_of(double row) const { return grid_.out[1] == 1 || row > 4 ? 2 : 1; }
  // Floats under one output along an axis: of a patch, and `outputs` for each pixel.
  std::int64_t floats_along(int axis, std::int64_t outputs) const {
    const std::int64_t across = axis == 1 ? grid_.out[2] : grid_.phase[1];
    const std::int64_t line = grid_.patch[0] * in_.size * grid_.reach(3 - axis, across);
    return across * outputs + line * grid_.step[axis] / grid_.phase[axis] + 1;
  }
  // When in_ is set: `length` outputs along the axis, strips of about `wanted`, a multiple of `unit`. Items
  // compute `extra` rows of the next strip.
  void cut(int axis, std::int64_t length, std::int64_t wanted, std::int64_t unit, std::int64_t extra = 0);
  void cut_patches(std::int64_t floats);  // the same, for patches of so many
  std::int64_t strips() const { return grid_.planes() * lines_ * count_; }
  ConvStrip strip(std::int64_t i) const;
  std::int64_t first_pixel(const ConvStrip& s) const { return grid_.first_pixel(s.plane, s.row0) + s.col0; }
  std::string text() const;  // "4 strips of 7 rows"

  ConvSteps steps(std::int64_t ib) const;
  // The first input of the strip's first output, in block ib of the channels from `channel` on. May be in the
  // patch, which is written then.
  const float* source(const RunArgs& a, const Worker& w, const ConvStrip& s, std::int64_t channel,
                      std::int64_t ib) const;

  const ConvKernels& k_;
  ConvParams c_;
  ConvGrid grid_;
  ChannelBlocks in_;
  std::int64_t rows_ = 1, cols_ = 1;   // of a strip, at most
  std::int64_t size_ = 1, count_ = 1;  // along the axis
  std::int64_t lines_ = 1;             // strips across it
  int axis_ = 1;                       // that is cut

 private:
  Range<float> patch_;
};

// Forward and backward data: what the taps give, then the epilogue.
class StripOutputs : public StripConv {
 protected:
  StripOutputs(const Problem& p, bool transposed);
  void set_stages(const Problem& p, std::int64_t items);
  // The kernel over the rows of one phase; r holds all that they have in common.
  template <class Row>
  void run_rows(Row r, const ConvPhase& f, const ConvStrip& s, const ConvSteps& in, const ConvOutput& out,
                void (*kernel)(const Row&)) const {
    r.in_pixel = grid_.step[2] * in.pixel, r.out_pixel = grid_.phase[2] * out.pixel;
    r.out += f.first[1] * out.row + f.first[2] * out.pixel;
    for (std::int64_t row = s.row0 + f.first[1]; row < s.row1; row += grid_.phase[1]) {
      r.pixels = static_cast<decltype(r.pixels)>(ceil_div(s.cols(grid_, row) - f.first[2], grid_.phase[2]));
      kernel(r);
      r.in += grid_.step[1] * in.row, r.out += grid_.phase[1] * out.row;
    }
  }
  // Channels [channel, channel + c) of strip i, at `out`: y = f(y + residual), a copy of y + residual where
  // somebody wants it (of the rows before kept_end), and the strip's part of the statistics.
  void finish(const RunArgs& a, std::int64_t i, const ConvStrip& s, const ConvOutput& out,
              std::int64_t channel, std::int64_t c, std::int64_t kept_end) const;

  int bias_, residual_ = -1, kept_ = -1;
  std::int64_t out_pixel_, residual_pixel_ = 0, kept_pixel_ = 0;
  Function function_;
  PartialMoments moments_;
};

// Backward weights: groups of strips, each with sums of its own.
class StripWeights : public StripConv {
 protected:
  explicit StripWeights(const Problem& p)
      : StripConv(p, false), dy_pixel_(pixel_of(p.inputs[1])), want_dw_(p.wants(0)), want_db_(p.wants(1)) {}
  // Adds a group's dy, channels [channel, channel + c), to db, and calls f(strip, dy at its first pixel).
  template <class F>
  void for_strips(const RunArgs& a, std::int64_t group, std::int64_t channel, std::int64_t c, float* db,
                  F&& f) const {
    const Part mine = part_of(strips(), groups_, group);
    for (std::int64_t i = mine.begin; i < mine.end; ++i) {
      const ConvStrip s = strip(i);
      const float* const dy = floats(a.in[1]) + first_pixel(s) * dy_pixel_ + channel;
      // Rows are joined, unless they are cut; short only in a flattened grid, whose strips are single rows.
      if (want_db_)
        k_.channel_sums(dy, dy_pixel_, (s.row1 - s.row0) * s.cols(grid_, s.row0), c, db + channel);
      if (want_dw_) f(s, dy);
    }
  }

  std::int64_t dy_pixel_, groups_ = 1;
  bool want_dw_, want_db_;
};

// Weights as the direct kernels read or write them: [group][oc block][phase][ic block][tap][ic][lanes].
struct PackedWeights {
  const ConvGrid& grid;
  const ChannelBlocks& in;
  VectorBlocks out;

  std::int64_t group_floats() const { return grid.taps * in.c * out.padded(); }
  std::int64_t at(std::int64_t g, std::int64_t kb, const ConvPhase& f, std::int64_t ib) const {
    return g * group_floats() + grid.taps * in.c * out.begin(kb) +
           (f.taps_before * in.c + static_cast<std::int64_t>(f.taps.size()) * in.begin(ib)) * out.lanes(kb);
  }
  // What pack_weights and unpack_weights are told of a block, but for its taps.
  // from: floats from w to its first channels.
  ConvWeights block(const ConvParams& c, bool transposed, std::int64_t g, std::int64_t kb, std::int64_t ib,
                    std::int64_t* from) const;
  std::string text(const ConvKernels& k, const std::string& strips, std::int64_t chunks) const;
};

constexpr std::int64_t kBlockRows = 1152;  // taps times input channels of a patch: its weights are in L2 too

std::unique_ptr<Prepared> prepare_direct_backward_weights(const Problem& p);

}  // namespace fastcnn::ops

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
#include "ops/conv/conv.h"

namespace fastcnn::ops {

struct ConvTap {
  std::array<std::int64_t, 3> at;  // input position of the phase's first output, from the grid's corner
  int index;                       // in the weights of two channels
};

struct ConvPhase {
  std::array<std::int64_t, 3> first;  // output position; the next ones are grid.phase further
  std::vector<ConvTap> taps;          // in the order of the packed weights
  std::vector<int> indices;           // of the taps
  std::int64_t taps_before = 0;       // of earlier phases
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

// A rectangle of an output plane.
struct ConvStrip {
  std::int64_t row0, row1, col0, col1;
  // Pixels in one of its rows; only the last row of a flattened grid is short.
  std::int64_t cols(const ConvGrid& g, std::int64_t row) const { return std::min(col1, g.cols(row)) - col0; }
};

// Planes cut into nearly equal strips of rows. Where a plane is a single row (one spatial dimension) or rows
// are very long, one row of every phase is cut into strips of columns.
struct ConvStrips {
  int axis = 1;                      // that is cut
  std::int64_t rows = 1, cols = 1;   // of a strip, at most
  std::int64_t size = 1, count = 1;  // along the axis
  std::int64_t lines = 1;            // strips across it

  ConvStrips() = default;
  // Whether columns should be cut when a row costs `row` of what a strip may.
  static int axis_of(const ConvGrid& g, double row) { return g.out[1] == 1 || row > 4 ? 2 : 1; }
  // `length` outputs along the axis, strips of about `wanted`, a multiple of `unit`.
  ConvStrips(const ConvGrid& g, int axis, std::int64_t length, std::int64_t wanted, std::int64_t unit);
  std::int64_t of_plane() const { return lines * count; }
  ConvStrip strip(const ConvGrid& g, std::int64_t i) const;
  std::string text() const;  // "4 strips of 7 rows"
};

// Floats between neighbours in what the kernels read.
struct ConvSteps {
  std::int64_t plane, row, pixel;
  std::int64_t of(const ConvTap& t) const { return t.at[0] * plane + t.at[1] * row + t.at[2] * pixel; }
};

// The input under a strip as the kernels read it: the image itself, or, where taps leave it, a patch.
class ConvInput {
 public:
  ConvInput() = default;
  // Strips of at most rows x cols outputs.
  ConvInput(const ConvKernels& k, std::int64_t rows, std::int64_t cols) : k_(&k), rows_(rows), cols_(cols) {}
  std::int64_t patch_floats(const ConvGrid& g, std::int64_t c) const;
  ConvSteps steps(const ConvGrid& g, std::int64_t c) const;  // of blocks of c channels
  // The first input of the strip's first output; `patch` is written where one is needed.
  const float* at(const ConvGrid& g, const float* x, std::int64_t plane, const ConvStrip& s,
                  std::int64_t channel, std::int64_t c, float* patch) const;

 private:
  const ConvKernels* k_ = nullptr;
  std::int64_t rows_ = 0, cols_ = 0;
};

// Runs of consecutive floats for one phase: neighbouring taps join where the channels between them are all
// read.
std::vector<ConvRun> runs_of(const ConvPhase& phase, const ConvSteps& steps, std::int64_t c);

// Channels cut into nearly equal blocks of at most `most`.
struct ChannelBlocks {
  std::int64_t c = 0, size = 0, count = 0;
  ChannelBlocks() = default;
  ChannelBlocks(std::int64_t channels, std::int64_t most)
      : c(channels), size(ceil_div(channels, ceil_div(channels, most))), count(ceil_div(channels, size)) {}
  std::int64_t begin(std::int64_t i) const { return i * size; }
  std::int64_t length(std::int64_t i) const { return i + 1 < count ? size : c - i * size; }
  bool last(std::int64_t i) const { return i + 1 == count; }
};

// Output channels cut into blocks of two vectors, or of four where there are kernels for it and nothing is
// left over that would waste one; the last block takes as many vectors as it needs.
struct VectorBlocks {
  std::int64_t c = 0, width = 0, size = 0, count = 0;  // size: channels of a whole block
  VectorBlocks() = default;
  VectorBlocks(std::int64_t channels, const KernelTable& k) : c(channels), width(k.width) {
    const std::int64_t vectors = ceil_div(channels, width);
    size = (k.conv->tile[4] && vectors >= 4 && vectors % 4 != 3 ? 4 : 2) * width;
    count = ceil_div(channels, size);
  }
  std::int64_t begin(std::int64_t i) const { return i * size; }
  std::int64_t end(std::int64_t i) const { return begin(i) + length(i); }
  std::int64_t length(std::int64_t i) const { return i + 1 < count ? size : c - begin(i); }
  int vectors(std::int64_t i) const { return static_cast<int>(ceil_div(length(i), width)); }
  std::int64_t lanes(std::int64_t i) const { return vectors(i) * width; }
  std::int64_t padded() const { return count ? begin(count - 1) + lanes(count - 1) : 0; }
};

std::unique_ptr<Prepared> prepare_direct_backward_weights(const Problem& p);

}  // namespace fastcnn::ops

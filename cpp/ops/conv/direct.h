// The geometry that the direct implementations share. A convolution is seen as `phases`: output pixels that
// meet the same taps. Forward has one; backward data with stride s has s x s, each a convolution of stride 1
// over dy.
#pragma once

#include <string>
#include <vector>

#include "kernels/conv.h"
#include "kernels/table.h"
#include "ops/conv/conv.h"

namespace fastcnn::ops {

struct ConvTap {
  std::int64_t row, col;  // input pixel of output (0, 0) of the phase, from the grid's corner
  int index;              // kh * KW + kw
};

struct ConvPhase {
  std::int64_t row = 0, col = 0;  // first output pixel; the next ones are grid.phase_h, phase_w further
  std::vector<ConvTap> taps;      // in the order of the packed weights
  std::vector<int> indices;       // of the taps
  std::int64_t taps_before = 0;   // of earlier phases
};

struct ConvGrid {
  std::int64_t n = 0;
  std::int64_t src_h = 0, src_w = 0, src_c = 0;  // the image that is read
  std::int64_t out_h = 0, out_w = 0, out_c = 0;  // the image that is written
  std::int64_t groups = 1;
  std::int64_t step_h = 1, step_w = 1;    // input pixels between neighbouring outputs of a phase
  std::int64_t phase_h = 1, phase_w = 1;  // output pixels between them
  std::int64_t corner_row = 0,
               corner_col = 0;            // input pixel that the first output's patch starts at; may be < 0
  std::int64_t patch_h = 1, patch_w = 1;  // input pixels that one output (of all phases) spans
  std::int64_t taps = 0;                  // of all phases
  bool padded = false;                    // some tap leaves the image
  std::int64_t pixels = 0;                // out_h * out_w, but fewer in a flattened grid's last row
  std::vector<ConvPhase> phases;

  std::int64_t src_group() const { return src_c / groups; }
  std::int64_t out_group() const { return out_c / groups; }
  std::int64_t cols(std::int64_t row) const {  // of an output row
    return pixels - row * out_w < out_w ? pixels - row * out_w : out_w;
  }
};

ConvGrid forward_grid(const ConvParams& p);
ConvGrid backward_data_grid(const ConvParams& p);
// A 1x1 convolution without padding and stride is one matrix product: all images become one, with rows of
// `length`. Returns whether the grid could be flattened.
bool flatten_grid(ConvGrid& g, std::int64_t length);

// Runs of consecutive floats for one phase: neighbouring taps join where the channels between them are all
// read.
std::vector<ConvRun> runs_of(const ConvPhase& phase, std::int64_t row_stride, std::int64_t pixel,
                             std::int64_t c);

// Channels cut into nearly equal blocks of at most `most`.
struct ChannelBlocks {
  std::int64_t c = 0, size = 0, count = 0;
  ChannelBlocks() = default;
  ChannelBlocks(std::int64_t channels, std::int64_t most)
      : c(channels),
        size((channels + (channels + most - 1) / most - 1) / ((channels + most - 1) / most)),
        count((channels + size - 1) / size) {}
  std::int64_t begin(std::int64_t i) const { return i * size; }
  std::int64_t length(std::int64_t i) const { return i + 1 < count ? size : c - i * size; }
};

// Output channels cut into blocks of two vectors, or of four where there are kernels for it and nothing is
// left over that would waste one; the last block takes as many vectors as it needs.
struct VectorBlocks {
  std::int64_t c = 0, width = 0, size = 0, count = 0;  // size: channels of a whole block
  VectorBlocks() = default;
  explicit VectorBlocks(std::int64_t channels) : c(channels), width(kernels().width) {
    const std::int64_t vectors = (channels + width - 1) / width;
    size = (kernels().conv->row[4] && vectors >= 4 && vectors % 4 != 3 ? 4 : 2) * width;
    count = (channels + size - 1) / size;
  }
  std::int64_t begin(std::int64_t i) const { return i * size; }
  std::int64_t length(std::int64_t i) const { return i + 1 < count ? size : c - begin(i); }
  int vectors(std::int64_t i) const { return static_cast<int>((length(i) + width - 1) / width); }
  std::int64_t padded() const { return count ? begin(count - 1) + vectors(count - 1) * width : 0; }
};

std::unique_ptr<Prepared> prepare_direct_forward(const Problem& p);
std::unique_ptr<Prepared> prepare_direct_backward_data(const Problem& p);
std::unique_ptr<Prepared> prepare_direct_backward_weights(const Problem& p);

}  // namespace fastcnn::ops

// What the ops that move elements without arithmetic share.
#pragma once

#include <memory>
#include <vector>

#include "ops/checks.h"
#include "ops/registry.h"

namespace fastcnn::ops {

// Channels copied from an input into the output, or zeros (input -1).
struct Piece {
  int input;
  std::int64_t from, to, n;
};
// Values that lie alike, all of them slices perhaps.
std::unique_ptr<Prepared> copy_channels(const Problem& p, const std::vector<Piece>& pieces);

// Plain images [c][pixels] to channels-last ones [pixels][c] or back, both of them slices perhaps; bytes
// become floats on the way.
bool transposes(const Geometry& from, const Geometry& to);
std::unique_ptr<Prepared> transpose_images(const Problem& p, const Geometry& from, const Geometry& to);

// It costs its memory's way only.
class MovingOp : public OpDef {
 public:
  MovingOp(std::string name, std::vector<AttrSpec> attributes, std::vector<Impl> cpu)
      : OpDef(std::move(name), std::move(attributes), std::move(cpu), 0) {}
  bool may_alias() const override { return true; }
};

void register_flatten(Registry& r);    // flatten unflatten
void register_channels(Registry& r);   // concat slice_channels pad_channels
void register_subsample(Registry& r);  // subsample subsample_backward
void register_convert(Registry& r);    // convert

}  // namespace fastcnn::ops

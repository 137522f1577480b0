// Checks and small facts that the memory-bound ops share.
#pragma once

#include <string>
#include <vector>

#include "kernels/activation_kind.h"
#include "ops/op.h"

namespace fastcnn::ops {

// ValueError / TypeError that say what was expected and what came.
void expect_inputs(const std::vector<TensorDesc>& in, std::size_t least, std::size_t most, const char* names);
void expect_float(const TensorDesc& d, const char* what);
void expect_map(const TensorDesc& d, const char* what);    // float32 (N, C, H, W), only N may be 0
void expect_batch(const TensorDesc& d, const char* what);  // float32 (N, F) or (N, C, H, W)
void expect_shape(const TensorDesc& d, const char* what, const Shape& shape, const char* like);
void expect_vector(const TensorDesc& d, const char* what, std::int64_t n,
                   const TensorDesc& x);  // float32 [n]

TensorDesc batched_desc(const Shape& shape, DType dtype = DType::kFloat32);
// An elementwise result: a sum of two weight gradients is no more a batch than they are.
TensorDesc like(const TensorDesc& operand);
TensorDesc plain_desc(const Shape& shape, DType dtype = DType::kFloat32);

// "" when every batched value of rank 2 or 4 lies in `layout` (or in the same bytes), else why not.
std::string unless_in(const Problem& p, Layout layout);
// "" when they all lie alike, whatever the layout.
std::string unless_alike(const Problem& p);
// The layout of such a problem.
Layout layout_of(const Problem& p);

Act act_of(Activation a);

inline bool wants(const Problem& p, std::size_t output) {
  return output >= p.wanted.size() || p.wanted[output];
}

// Elements one item of a flat loop takes: 64 KB of float32, so that starting it costs nothing in comparison.
constexpr std::int64_t kFlatItem = 16384;

}  // namespace fastcnn::ops

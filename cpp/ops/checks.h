// Checks and small pieces that the ops share.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "ops/op.h"
#include "ops/partition.h"
#include "ops/scratch.h"

namespace fastcnn::ops {

// ValueError / TypeError that say what was expected and what came.
void expect_inputs(const std::vector<TensorDesc>& in, std::size_t least, std::size_t most, const char* names);
void expect_float(const TensorDesc& d, const char* what);
// float32 (N, C, spatial) of so many spatial dimensions; only N may be 0.
void expect_map(const TensorDesc& d, const char* what, int spatial = 2);
void expect_batch(const TensorDesc& d, const char* what);  // float32 (N, F) or (N, C, spatial)
void expect_shape(const TensorDesc& d, const char* what, const Shape& shape, const char* like);
void expect_vector(const TensorDesc& d, const char* what, std::int64_t n,
                   const TensorDesc& x);  // float32 [n]

// Input 2, if it is there: a bias of `channels` elements.
void expect_bias(const std::vector<TensorDesc>& in, std::int64_t channels);

TensorDesc batched_desc(const Shape& shape, DType dtype = DType::kFloat32);
// An elementwise result: a sum of two weight gradients is no more a batch than they are.
TensorDesc like(const TensorDesc& operand);
TensorDesc plain_desc(const Shape& shape, DType dtype = DType::kFloat32);

// Reasons to decline, "" where there is none.
// The first reason of several.
template <class... More>
std::string first_of(std::string why, More&&... more) {
  if constexpr (sizeof...(more) == 0)
    return why;
  else
    return why.empty() ? first_of(std::forward<More>(more)...) : why;
}
// Every value that takes a layout lies in `layout` (or in the same bytes).
std::string unless_in(const Problem& p, Layout layout);
// They all lie alike, whatever the layout.
std::string unless_alike(const Problem& p);
// All operands are dense: none is a slice of a wider memory.
std::string unless_dense(const Problem& p);
std::string unless_no_posts(const Problem& p);
// Nothing is done on the way in, and on the way out these at most, in this order.
std::string unless_after(const Problem& p, std::initializer_list<PostKind> order);
template <Layout kLayout, PostKind... kAfter>
std::string unless_plain_in(const Problem& p) {
  return first_of(unless_in(p, kLayout), unless_after(p, {kAfter...}));
}
// It ends with a function at most, whose input nobody wants.
std::string unless_function(const Problem& p);
// The layout of a problem whose values lie alike.
Layout layout_of(const Problem& p);
// Index of an optional input of the op's own (those of the post-ops follow), -1 where it is absent.
int own_input(const Problem& p, int i);

inline const float* floats(const void* p) { return static_cast<const float*>(p); }
inline float* floats(void* p) { return static_cast<float*>(p); }

// Operand i, null where i is -1.
inline const float* floats(const void* const* in, int i) { return i < 0 ? nullptr : floats(in[i]); }
inline float* floats(void* const* out, int i) { return i < 0 ? nullptr : floats(out[i]); }

template <class T>
std::unique_ptr<Prepared> prepare(const Problem& p) {
  return std::make_unique<T>(p);
}

// The gradients of y = x w + bias: those ops' results, for what is needed.
std::vector<ValueId> weighted_gradients(GradBuilder& g, const Call& call, ValueId dy, const std::string& data,
                                        const Attrs& data_attrs, const std::string& weights,
                                        const Attrs& weights_attrs);

// The result is the operand, seen with another shape or layout.
class SameBytes : public Prepared {
 public:
  explicit SameBytes(const Problem&) { stages_ = {}; }
  void item(const RunArgs&, int, std::int64_t, const Worker&) const override {}
  bool is_view() const override { return true; }
};

}  // namespace fastcnn::ops

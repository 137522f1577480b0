// What a fused step does besides its own op: a list of post-ops that its implementation walks. It declines
// what it cannot do.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

#include "kernels/functions.h"

namespace fastcnn::ops {

enum class PostKind : std::uint8_t {
  kNone,
  kFunction,      // y = f(y)
  kAdd,           // y = y + operand
  kPool,          // max or average of whole windows; the result is the pooled value
  kStatistics,    // mean, rstd and moments of y's channels
  kFunctionGrad,  // y = y f'(operand)
};

struct PoolSpec {
  bool average = false;
  std::int64_t kernel[3] = {1, 1, 1}, stride[3] = {1, 1, 1};  // no padding, no partial windows
};

struct PostOp {
  PostKind kind = PostKind::kNone;
  Function function;  // kFunction, kFunctionGrad
  PoolSpec pool;      // kPool
  double eps = 0;     // kStatistics
  // Where its operand stands among the problem's inputs (kAdd; kFunctionGrad: the function's x or y).
  int in = -1;
  // Where its own results stand among the outputs: kStatistics from here on mean, rstd, moments; kFunction
  // and kPool the value before them, kFunctionGrad in Problem::before the value after it, -1 where nobody
  // wants that. The result that flows on is output 0 (or the op's input).
  int out = -1;
};
using PostOps = std::vector<PostOp>;

// The post-op of a kind, or null; a list holds each kind at most once where an implementation asks like this.
const PostOp* find(const PostOps& posts, PostKind kind);
// "" when `posts` holds these kinds only, each at most once and in this order; else a sentence that says why
// not.
std::string unless_in_order(const PostOps& posts, std::initializer_list<PostKind> order);
// kFunction's function, or none.
Function function_of(const PostOps& posts);
std::string text_of(const PostOp& post);  // "relu", "add", "max_pool", "statistics", "relu_grad"

}  // namespace fastcnn::ops

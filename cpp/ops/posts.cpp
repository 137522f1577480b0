#include "ops/posts.h"

#include "core/error.h"

namespace fastcnn::ops {

const PostOp* find(const PostOps& posts, PostKind kind) {
  for (const PostOp& post : posts)
    if (post.kind == kind) return &post;
  return nullptr;
}

std::string unless_in_order(const PostOps& posts, std::initializer_list<PostKind> order) {
  static const char* const kNames[] = {"nothing", "a function", "an addition",
                                       "pooling", "statistics", "a function's gradient"};
  auto next = order.begin();
  for (const PostOp& post : posts) {
    while (next != order.end() && *next != post.kind) ++next;
    if (next == order.end()) return str("does not end with ", kNames[static_cast<int>(post.kind)], " there");
    ++next;
  }
  return "";
}

Function function_of(const PostOps& posts) {
  const PostOp* post = find(posts, PostKind::kFunction);
  return post ? post->function : Function{};
}

std::string text_of(const PostOp& post) {
  if (post.kind == PostKind::kAdd) return "add";
  if (post.kind == PostKind::kPool) return post.pool.average ? "avg_pool" : "max_pool";
  if (post.kind == PostKind::kStatistics) return "statistics";
  if (!post.function) return "";
  return str(row_of(post.function.kind).name, post.kind == PostKind::kFunctionGrad ? "_grad" : "");
}

}  // namespace fastcnn::ops

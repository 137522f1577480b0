// Fusion: a node does its neighbours' work as post-ops, one at a time, as long as an implementation takes the
// fused step. The fused node stands in one of the two places, where everything it reads is there, nobody who
// reads it stands before, and no effect is passed by.
#include <algorithm>

#include "graph/passes/passes.h"

namespace fastcnn::graph {
namespace {

using ops::PostKind;
using ops::PostOp;

class Fuser : Pass {
 public:
  explicit Fuser(Program& p) : Pass(p) {
    p_.stands_for.assign(at(g_.id_count()), -1);
    position_.assign(at(g_.id_count()), kNoNode);
    followers_.resize(at(g_.id_count()));
    for (std::size_t i = 0; i < g_.nodes().size(); ++i) {
      const Node& n = g_.nodes()[i];
      position_[at(n.id)] = static_cast<NodeId>(i);
      for (const int before : n.effects) followers_[at(before)].push_back(n.id);
    }
  }

  void run() {
    for (std::size_t i = 0; i < g_.nodes().size(); ++i) {
      const auto id = static_cast<NodeId>(i);
      while (!node(id).dead && (absorb_follower(id) || absorb_gradient(id))) {
      }
    }
  }

 private:
  const std::vector<NodeId>& readers(ValueId v) const { return readers_.of[at(v)]; }
  bool alone(ValueId v) const { return readers(v).size() == 1 && !p_.is_output(v); }

  // Somebody takes the fused step, and nobody better would have taken it without the post-op: a pool is worth
  // less than Winograd.
  bool feasible(const Node& fused, const Node& alone) const {
    const ops::Impl* const with = taker(fused);
    if (!with) return false;
    const ops::Impl* const without = taker(alone);
    return !without || with == without;
  }

  // A node that reads n's first output and could be done on the way out.
  bool absorb_follower(NodeId i) {
    if (node(i).out.empty()) return false;
    const ValueId y = node(i).out[0];
    for (const NodeId r : readers(y)) {
      const Node &n = node(i), &c = node(r);
      PostOp post = c.op->as_post(c.facts.get());
      if (post.kind == PostKind::kNone || c.layout != n.layout || c.section != n.section ||
          !c.before.empty() || !c.after.empty())
        continue;
      Node fused = n;
      if (!append(fused, c, post, y)) continue;
      const bool early = could_stand_at(c, i, y);
      if ((!early && !can_move_to(n, r)) || !feasible(fused, n)) continue;
      replace(i, r, std::move(fused), early ? i : r);
      return true;
    }
    return false;
  }

  // n with c as its next post-op; false where that would say something else.
  bool append(Node& n, const Node& c, PostOp post, ValueId y) const {
    switch (post.kind) {
      case PostKind::kFunction:
        break;
      case PostKind::kAdd:
      case PostKind::kFunctionGrad: {
        const ValueId other = c.in[0] == y ? c.in[1] : c.in[0];
        if (!alone(y) || other == y || (post.kind == PostKind::kFunctionGrad && c.in[0] != y)) return false;
        const bool own = std::find(n.out.begin(), n.out.end(), other) != n.out.end();
        if (own || g_.desc(other).layout != g_.desc(y).layout || g_.desc(other).shape != g_.desc(y).shape)
          return false;
        post.in = static_cast<int>(n.in.size());
        n.in.push_back(other);
        break;
      }
      case PostKind::kStatistics:
        post.out = static_cast<int>(n.out.size());
        n.out.insert(n.out.end(), c.out.begin(), c.out.end());
        n.after.push_back(post);
        return true;
      case PostKind::kPool:
        for (std::size_t k = 1; k < c.out.size(); ++k)
          if (readers_.read[at(c.out[k])]) return false;  // the arg-max is wanted
        break;
      case PostKind::kNone:
        return false;
    }
    n.out[0] = c.out[0];
    if (!alone(y)) {  // the value before is wanted too
      post.out = static_cast<int>(n.out.size());
      n.out.push_back(y);
    }
    n.after.push_back(post);
    return true;
  }

  // n may run as late as position r if nobody before r, except r itself, reads or must follow it.
  bool can_move_to(const Node& n, NodeId r) const {
    for (const ValueId v : n.out)
      for (const NodeId reader : readers(v))
        if (reader < r) return false;
    for (const int f : followers_[at(n.id)])
      if (position_[at(p_.now(f))] < r) return false;
    return true;
  }

  // Everything c reads but `except`, and everything it must follow, is there before position i, or is i.
  bool could_stand_at(const Node& c, NodeId i, ValueId except) const {
    for (const ValueId v : c.in)
      if (v != kNoValue && v != except && g_.value(v).producer >= i) return false;
    for (const int e : c.effects)
      if (position_[at(p_.now(e))] > i) return false;
    return true;
  }

  // The function's gradient that makes n's first input and could be computed on the way in.
  bool absorb_gradient(NodeId i) {
    const Node& n = node(i);
    if (n.in.empty() || n.in[0] == kNoValue || !n.before.empty()) return false;
    const ValueId masked = n.in[0];
    if (std::count(n.in.begin(), n.in.end(), masked) > 1) return false;  // it is another operand too
    const NodeId producer = g_.value(masked).producer;
    if (g_.value(masked).source != Source::kNode || producer == kNoNode || p_.is_output(masked)) return false;
    const Node& a = node(producer);
    PostOp post = a.op->as_post(a.facts.get());
    if (a.dead || post.kind != PostKind::kFunctionGrad || a.layout != n.layout || a.section != n.section ||
        !a.before.empty() || !a.after.empty())
      return false;
    // Who else reads the masked gradient gets it from n: if one of them stands before n, n moves up.
    const bool early = readers(masked).front() < i;
    if (early && !could_stand_at(n, producer, masked)) return false;
    if (!early && !can_move_to(a, i)) return false;
    Node fused = n;
    fused.in[0] = a.in[0];
    post.in = static_cast<int>(fused.in.size());
    fused.in.push_back(a.in[1]);
    if (readers(masked).size() > 1) {
      post.out = static_cast<int>(fused.out.size());
      fused.out.push_back(masked);
    }
    fused.before.push_back(post);
    if (!feasible(fused, n)) return false;
    replace(producer, i, std::move(fused), early ? producer : i);
    return true;
  }

  // Nodes a and b become `fused`, in the place of one of them.
  void replace(NodeId a, NodeId b, Node fused, NodeId place) {
    std::vector<ValueId> touched;
    std::vector<int> effects;
    const int id = node(place).id;
    for (const NodeId i : {a, b}) {
      Node& n = node(i);
      touched.insert(touched.end(), n.in.begin(), n.in.end());
      effects.insert(effects.end(), n.effects.begin(), n.effects.end());
      if (i == place) continue;
      n.dead = true;
      p_.stands_for[at(n.id)] = id;
      auto& mine = followers_[at(id)];
      mine.insert(mine.end(), followers_[at(n.id)].begin(), followers_[at(n.id)].end());
    }
    const auto own = [&](int e) { return p_.now(e) == id; };
    effects.erase(std::remove_if(effects.begin(), effects.end(), own), effects.end());
    followers_[at(id)].erase(std::remove_if(followers_[at(id)].begin(), followers_[at(id)].end(), own),
                             followers_[at(id)].end());
    fused.id = id;
    fused.effects = std::move(effects);
    for (const ValueId v : fused.out) g_.value(v).producer = place;
    for (const ValueId v : touched) {
      if (v == kNoValue) continue;
      auto& list = readers_.of[at(v)];
      list.erase(std::remove_if(list.begin(), list.end(), [&](NodeId r) { return r == a || r == b; }),
                 list.end());
      if (std::find(fused.in.begin(), fused.in.end(), v) != fused.in.end())
        list.insert(std::lower_bound(list.begin(), list.end(), place), place);
      readers_.read[at(v)] = !list.empty() || p_.is_output(v);
    }
    node(place) = std::move(fused);
  }

  std::vector<NodeId> position_;             // by id
  std::vector<std::vector<int>> followers_;  // by id: who must come after it for an effect's sake
};

}  // namespace

void fuse(Program& p) {
  Fuser(p).run();
  p.tidy();
}

}  // namespace fastcnn::graph

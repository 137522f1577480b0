// The passes that turn a recorded graph into one a plan can run. They work from the facts of ops/op.h and
// know no op's name, except for those they build with: convert, fold_channel_affine, and add in the backward
// pass.
#pragma once

#include "graph/graph.h"

namespace fastcnn::graph {

// What the passes work on: a plan's copy of the graph.
struct Program {
  Graph graph;
  std::vector<ValueId> outputs;
  ops::Context context;
  // Ids of nodes that were absorbed, with who stands for them now.
  std::vector<int> stands_for;

  int now(int id) const {
    while (at(id) < stands_for.size() && stands_for[at(id)] >= 0) id = stands_for[at(id)];
    return id;
  }
  bool is_output(ValueId v) const;
  // Drops dead nodes and renews every value's producer.
  void tidy();
  void renew_producers();
};

struct Readers {
  std::vector<std::vector<NodeId>> of;  // per value: nodes that read it, in order, once each
  std::vector<bool> read;               // per value: has a reader or is an output
};
Readers readers_of(const Program& p);

// Marks nodes dead that neither reach an output nor update anything.
void prune(Program& p);
// Folds per-channel affine maps (batch norm in inference) into the weights of the node before.
void fold_affine(Program& p);
// Decides where each node computes ("auto", "nhwc", "interleaved"), sets every value's layout and inserts
// conversions where the layout changes. Inputs that a later section reads are copied in their own.
void place(Program& p, const std::string& layout);
// Puts values into the memory of what they are joined to, or cut from, wherever everybody concerned takes
// such slices; copies the others.
void slice(Program& p);
// Computes again, for the backward pass, what is cheap to repeat from such slices, instead of keeping it.
void repeat(Program& p);
// Lets ops do their neighbours' work as post-ops where an implementation takes the fused step.
void fuse(Program& p);

// Throws std::logic_error, naming the pass and the node, where the program is not as every pass must leave
// it. laid_out: layouts are decided, and with them who takes each node.
void verify(const Program& p, const char* pass, bool laid_out);

// Inserts each node before the one at its position.
void insert_before(Program& p, std::vector<std::pair<std::size_t, Node>> made);
// What the passes that walk the nodes have at hand.
struct Pass {
  explicit Pass(Program& p) : p_(p), g_(p.graph), readers_(readers_of(p)) {}
  Node& node(NodeId i) { return g_.nodes()[at(i)]; }
  const Node& node(NodeId i) const { return g_.nodes()[at(i)]; }
  const ops::Impl* taker(const Node& n) const {
    return ops::taker(*n.op, problem_of(g_, n, p_.context, &readers_.read));
  }

  Program& p_;
  Graph& g_;
  Readers readers_;
  std::vector<std::pair<std::size_t, Node>> made_;  // for insert_before
};
// A copy or conversion of `from` into layout `to`.
Node conversion(Program& p, ValueId from, Layout to, const Node& beside, bool copy);

}  // namespace fastcnn::graph

// The passes that turn a recorded graph into one a plan can run. They work from the facts of ops/op.h and
// know no op's name, except for the two they build with: convert and fold_channel_affine.
#pragma once

#include "graph/graph.h"

namespace fastcnn::graph {

struct Readers {
  std::vector<std::vector<NodeId>> of;  // per value: nodes that read it, in order, once each
  std::vector<bool> read;               // per value: has a reader or is an output
};
Readers readers_of(const Graph& g, const std::vector<ValueId>& outputs);

// Marks nodes dead that neither reach an output nor update anything.
void prune(Graph& g, const std::vector<ValueId>& outputs);
// Folds per-channel affine maps (batch norm in inference) into the weights of the node before.
void fold_affine(Graph& g, const std::vector<ValueId>& outputs);

// Decides each node's mode ("auto", "nhwc", "interleaved"), sets every value's layout and inserts conversions
// where the layout changes. Outputs end in kPlain and in memory of their own. Inputs in `kept` are copied
// first.
void place(Graph& g, std::vector<ValueId>& outputs, const std::string& layout,
           const std::vector<ValueId>& kept);
// Lets ops absorb their neighbours where the fused step has an implementation.
void fuse(Graph& g, const std::vector<ValueId>& outputs);

}  // namespace fastcnn::graph

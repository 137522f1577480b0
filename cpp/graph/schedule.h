// Order: the steps of a plan as launches. A launch is one step, or a segment: consecutive block-wise steps
// that one thread carries out for one image block before it takes the next.
#pragma once

#include "graph/graph.h"
#include "ops/block.h"

namespace fastcnn::graph {

// A node with its chosen implementation.
struct PlannedNode {
  const Node* node = nullptr;
  ops::Problem problem;
  ops::Choice choice;
  int section = 0;  // -1: computed from parameters alone, 0: forward, 1: needs a late input
  bool view = false;
};

struct Launch {
  std::vector<int> nodes;  // indices of planned nodes, in order
  int section = 0;
  bool segment = false;
};

// root(v): the value whose memory v is (views resolved).
std::vector<Launch> schedule(const Graph& g, const std::vector<PlannedNode>& nodes,
                             const std::vector<ValueId>& root);

}  // namespace fastcnn::graph

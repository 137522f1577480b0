// What a step should take, in seconds: the layout pass compares by it, plan.describe() shows it beside the
// measured time (fastcnn bench prices).
#pragma once

#include <vector>

#include "graph/graph.h"

namespace fastcnn::graph {

// `near_in`, `near_out`: the operand stays in a thread's cache between the step that makes it and those that
// read it; empty: none does.
double seconds_of(const ops::OpDef& op, const ops::Problem& p, const std::vector<bool>& near_in,
                  const std::vector<bool>& near_out);
// Moving a value from one layout into another.
double seconds_to_move(const TensorDesc& d, const ops::Context& context);
// Whether one thread's slice of the value leaves room for others in its cache.
bool fits_cache(const TensorDesc& d);

}  // namespace fastcnn::graph

#include "graph/graph.h"

namespace fastcnn::graph {

ValueId Graph::new_value(const TensorDesc& desc) {
  Value v;
  v.desc = desc;
  values_.push_back(std::move(v));
  return static_cast<ValueId>(values_.size()) - 1;
}

void Graph::check_id(ValueId v) const {
  if (v < kNoValue || v >= value_count())
    throw ValueError(str("no value ", v, " in this graph of ", value_count()));
}

ValueId Graph::input(const Shape& shape, DType dtype, bool batched, const std::string& name) {
  const ValueId id = new_value({shape, dtype, Layout::kPlain, batched, false});
  value(id).source = Source::kInput;
  value(id).input = static_cast<int>(inputs_++);
  value(id).name = name;
  return id;
}

ValueId Graph::tensor(const Tensor& t, const std::string& name) {
  if (!t.defined()) throw ValueError(str("tensor '", name, "': has no memory"));
  const ValueId id = new_value({t.shape(), t.dtype(), Layout::kPlain, false, false});
  value(id).source = Source::kTensor;
  value(id).tensor = t;
  value(id).name = name;
  return id;
}

std::vector<ValueId> Graph::append(const ops::OpDef& op, const std::vector<ValueId>& in, const Attrs& attrs,
                                   const std::string& name) {
  std::vector<TensorDesc> descs;
  for (const ValueId v : in) {
    check_id(v);
    descs.push_back(v == kNoValue ? ops::absent_desc() : desc(v));
  }
  for (std::size_t i = 0; i < in.size(); ++i)
    check(!descs[i].batched || op.batched_input(static_cast<int>(i)), "operand ", i,
          " must be a parameter or a constant, got a value of shape ", descs[i].shape,
          " that differs from image to image");
  Node n;
  n.op = &op;
  n.attrs = attrs;
  n.in = in;
  n.name = name;
  n.forward = differentiating_;
  for (std::size_t i = 0; i < in.size(); ++i)
    if (in[i] != kNoValue && op.updates(static_cast<int>(i))) n.writes.push_back(in[i]);
  for (const TensorDesc& d : op.infer(attrs, descs)) {
    n.out.push_back(new_value(d));
    value(n.out.back()).producer = static_cast<NodeId>(nodes_.size());
  }
  nodes_.push_back(n);
  return nodes_.back().out;
}

std::vector<ValueId> Graph::record(const std::string& op, const std::vector<ValueId>& in, const Attrs& attrs,
                                   const std::string& name, const std::string& label) {
  const ops::OpDef& def = ops::find_op(op);
  const std::string who = label.empty() ? op : label;
  try {
    return append(def, in, attrs, name);
  } catch (const ValueError& e) {
    throw ValueError(str(who, ": ", e.what()));
  } catch (const TypeError& e) {
    throw TypeError(str(who, ": ", e.what()));
  }
}

std::vector<ValueId> Graph::add(const std::string& op, const std::vector<ValueId>& in, const Attrs& attrs) {
  const std::string name =
      differentiating_ == kNoNode ? std::string() : nodes_[static_cast<std::size_t>(differentiating_)].name;
  return append(ops::find_op(op), in, attrs, name);
}

std::vector<ValueId> Graph::backward(ValueId target, ValueId seed, const std::vector<ValueId>& wrt) {
  check_id(target);
  check_id(seed);
  const auto forward_nodes = static_cast<NodeId>(nodes_.size());
  std::vector<bool> needed(values_.size(), false);  // the gradient of this value is wanted on the way to wrt
  for (const ValueId v : wrt) {
    check_id(v);
    needed[static_cast<std::size_t>(v)] = true;
  }
  for (const Node& n : nodes_) {
    bool any = false;
    for (const ValueId v : n.in) any = any || (v != kNoValue && needed[static_cast<std::size_t>(v)]);
    if (any)
      for (const ValueId v : n.out) needed[static_cast<std::size_t>(v)] = true;
  }
  std::vector<ValueId> grad(values_.size(), kNoValue);
  if (seed == kNoValue) {
    seed = new_value(desc(target));
    value(seed).source = Source::kOne;
  } else if (desc(seed).shape != desc(target).shape) {
    throw ValueError(
        str("backward: expected a gradient of shape ", desc(target).shape, ", got ", desc(seed).shape));
  }
  grad[static_cast<std::size_t>(target)] = seed;
  for (NodeId id = forward_nodes - 1; id >= 0; --id) {
    const Node n = nodes_[static_cast<std::size_t>(id)];  // a copy: the backward rule appends nodes
    std::vector<ValueId> dy;
    std::vector<bool> needs;
    bool reached = false, any = false;
    for (const ValueId v : n.out) {
      dy.push_back(grad[static_cast<std::size_t>(v)]);
      reached = reached || dy.back() != kNoValue;
    }
    for (const ValueId v : n.in) {
      needs.push_back(v != kNoValue && needed[static_cast<std::size_t>(v)]);
      any = any || needs.back();
    }
    if (!reached || !any) continue;
    differentiating_ = id;
    std::vector<ValueId> dx;
    try {
      dx = n.op->backward(*this, {n.attrs, n.in, n.out, needs}, dy);
    } catch (const ValueError& e) {
      differentiating_ = kNoNode;
      throw ValueError(str(n.op->name(), n.name.empty() ? "" : " '" + n.name + "'", ": ", e.what()));
    }
    for (std::size_t i = 0; i < n.in.size() && i < dx.size(); ++i) {
      if (!needs[i] || dx[i] == kNoValue) continue;
      ValueId& sum = grad[static_cast<std::size_t>(n.in[i])];
      sum = sum == kNoValue ? dx[i] : add("add", {sum, dx[i]}, {})[0];
    }
    differentiating_ = kNoNode;
  }
  std::vector<ValueId> out;
  for (const ValueId v : wrt) out.push_back(grad[static_cast<std::size_t>(v)]);
  return out;
}

ops::Problem problem_of(const Graph& g, const Node& n, const std::vector<bool>& read) {
  ops::Problem p;
  p.attrs = n.attrs;
  p.fusion = n.fusion;
  for (const ValueId v : n.in) p.inputs.push_back(v == kNoValue ? ops::absent_desc() : g.desc(v));
  for (const ValueId v : n.out) {
    p.outputs.push_back(g.desc(v));
    p.wanted.push_back(static_cast<std::size_t>(v) < read.size() && read[static_cast<std::size_t>(v)]);
  }
  return p;
}

}  // namespace fastcnn::graph

#include "graph/graph.h"

#include <algorithm>

namespace fastcnn::graph {

ValueId Graph::new_value(const TensorDesc& desc) {
  Value v;
  v.desc = desc;
  v.section = section_;
  values_.push_back(std::move(v));
  return static_cast<ValueId>(values_.size()) - 1;
}

void Graph::check_id(ValueId v) const {
  if (v < kNoValue || v >= value_count())
    throw ValueError(str("no value ", v, " in this graph of ", value_count()));
}

ValueId Graph::input(const Shape& shape, DType dtype, bool batched, const std::string& name) {
  TensorDesc d;
  d.shape = shape, d.dtype = dtype, d.batched = batched;
  const ValueId id = new_value(d);
  value(id).source = Source::kInput;
  value(id).input = static_cast<int>(inputs_++);
  value(id).name = name;
  return id;
}

ValueId Graph::tensor(const Tensor& t, const std::string& name) {
  if (!t.defined()) throw ValueError(str("tensor '", name, "': has no memory"));
  TensorDesc d;
  d.shape = t.shape(), d.dtype = t.dtype();
  const ValueId id = new_value(d);
  value(id).source = Source::kTensor;
  value(id).tensor = t;
  value(id).name = name;
  return id;
}

// Joins that grow (DenseNet's list of maps) become joins of the previous one and what is new, so that each
// value is joined, and its gradient split, once.
void Graph::join_prefix(const ops::OpDef& op, std::vector<ValueId>& in) const {
  if (!op.joins_channels()) return;
  for (std::size_t n = in.size() - 1; n >= 2; --n) {
    const auto it = joined_.find({in.begin(), in.begin() + static_cast<std::ptrdiff_t>(n)});
    if (it == joined_.end()) continue;
    in.erase(in.begin(), in.begin() + static_cast<std::ptrdiff_t>(n));
    in.insert(in.begin(), it->second);
    return;
  }
}

const Storage* Graph::memory_of(ValueId v) const {
  while (value(v).source == Source::kNode) {
    const Node& n = nodes_[at(value(v).producer)];
    if (!n.op->may_alias() || n.out[0] != v) return nullptr;
    v = n.in[0];
  }
  return value(v).source == Source::kTensor ? value(v).tensor.storage().get() : nullptr;
}

std::set<const Storage*> Graph::written() const {
  std::set<const Storage*> memories;
  for (const Node& n : nodes_)
    for (const ValueId v : n.writes) memories.insert(value(v).tensor.storage().get());
  return memories;
}

// A tensor's value once more, as one that carries a batch; other values as they are.
ValueId Graph::as_batch(ValueId v) {
  if (value(v).source == Source::kInput || desc(v).batched || desc(v).shape.rank() < 2) return v;
  ValueId& batch = batches_.try_emplace(v, kNoValue).first->second;
  if (batch == kNoValue && value(v).source == Source::kNode)
    return batch = append(ops::find_op("convert"), {v}, {}, "", "")[0];
  if (batch == kNoValue) {
    Value copy = value(v);
    copy.desc.batched = true;
    values_.push_back(std::move(copy));
    batch = static_cast<ValueId>(values_.size()) - 1;
  }
  return batch;
}

// Who writes a memory follows all who read it before, who reads it follows the one that wrote it last.
void Graph::note_effects(Node& n) {
  const auto follow = [&](int id) {
    if (id >= 0 && id != n.id) n.effects.push_back(id);
  };
  for (const ValueId v : n.in) {
    const Storage* const memory = v == kNoValue ? nullptr : memory_of(v);
    if (!memory) continue;
    Touched& t = touched_[memory];
    follow(t.writer);
    if (std::find(n.writes.begin(), n.writes.end(), v) == n.writes.end()) {
      t.readers.push_back(n.id);
      continue;
    }
    for (const int reader : t.readers) follow(reader);
    t.readers.clear();
    t.writer = n.id;
  }
}

std::vector<TensorDesc> Graph::descs(const std::vector<ValueId>& values) const {
  std::vector<TensorDesc> out;
  out.reserve(values.size());
  for (const ValueId v : values) out.push_back(v == kNoValue ? ops::absent_desc() : desc(v));
  return out;
}

Node Graph::node_of(const ops::OpDef& op, const Attrs& attrs, const std::vector<ValueId>& in) {
  Node n;
  n.op = &op;
  n.attrs = ops::checked(op.attributes(), attrs);
  ops::Inferred inferred = op.infer(n.attrs, descs(in));
  n.id = next_id_++;
  n.facts = std::move(inferred.facts);
  n.in = in;
  for (const TensorDesc& d : inferred.outputs) n.out.push_back(new_value(d));
  return n;
}

// The operands as the op takes them: where any is a batch of images, or the op makes one of them or reads
// them by their layout (its result is not just their elements), constants and what is computed of constants
// take a layout as images do.
std::vector<ValueId> Graph::among_images(const ops::OpDef& op, const Attrs& attrs, std::vector<ValueId> in) {
  const auto stands = [&](std::size_t i) {
    const int k = static_cast<int>(i);
    return in[i] != kNoValue && op.batched_input(k) && !op.any_layout(k) && !op.updates(k);
  };
  bool images = false, constants = false;
  for (std::size_t i = 0; i < in.size(); ++i)
    if (stands(i)) (desc(in[i]).batched ? images : constants) = true;
  if (!constants) return in;
  if (!images) {
    const ops::Inferred made = op.infer(ops::checked(op.attributes(), attrs), descs(in));
    for (const TensorDesc& d : made.outputs)
      images = images || d.batched || in[0] == kNoValue || d.shape != desc(in[0]).shape;
  }
  for (std::size_t i = 0; images && i < in.size(); ++i)
    if (stands(i)) in[i] = as_batch(in[i]);
  return in;
}

std::vector<ValueId> Graph::append(const ops::OpDef& op, std::vector<ValueId> in, const Attrs& attrs,
                                   const std::string& name, const std::string& implementation) {
  for (const ValueId v : in) check_id(v);
  const std::vector<ValueId> given = in;
  if (in.size() > 2) join_prefix(op, in);
  for (std::size_t i = 0; i < in.size(); ++i) {
    if (in[i] == kNoValue) continue;
    check(!desc(in[i]).batched || op.batched_input(static_cast<int>(i)), "operand ", i,
          " must be a parameter or a constant, got a value of shape ", desc(in[i]).shape,
          " that differs from image to image");
    check(value(in[i]).source == Source::kTensor || !op.updates(static_cast<int>(i)), "operand ", i,
          " is updated: expected a tensor, got a value that is computed");
  }
  const std::vector<ValueId> operands = among_images(op, attrs, in);
  Node n = node_of(op, attrs, operands);
  n.name = name;
  n.implementation = implementation;
  n.forward = differentiating_;
  n.gradient = differentiating_ != kNoNode;
  n.section = section_;
  for (std::size_t i = 0; i < in.size(); ++i)
    if (in[i] != kNoValue && op.updates(static_cast<int>(i))) n.writes.push_back(in[i]);
  for (const ValueId v : n.out) value(v).producer = static_cast<NodeId>(nodes_.size());
  note_effects(n);
  if (op.joins_channels()) joined_[given] = n.out[0];
  nodes_.push_back(std::move(n));
  return nodes_.back().out;
}

std::vector<ValueId> Graph::record(const std::string& op, const std::vector<ValueId>& in, const Attrs& attrs,
                                   const std::string& name, const std::string& label,
                                   const std::string& implementation) {
  const ops::OpDef& def = ops::find_op(op);
  return in_the_name_of(label.empty() ? op : label,
                        [&] { return append(def, in, attrs, name, implementation); });
}

std::vector<ValueId> Graph::add(const std::string& op, const std::vector<ValueId>& in, const Attrs& attrs) {
  const std::string name = differentiating_ == kNoNode ? std::string() : nodes_[at(differentiating_)].name;
  return append(ops::find_op(op), in, attrs, name, "");
}

// The node's rule, with what it adds to `parts` (per value, the gradients that arrived).
void Graph::differentiate(const Node& n, const std::vector<ValueId>& dy, const std::vector<bool>& needs,
                          std::vector<std::vector<ValueId>>& parts) {
  const std::string who = str(n.op->name(), n.name.empty() ? "" : " '" + n.name + "'");
  const std::vector<ValueId> dx =
      in_the_name_of(who, [&] { return n.op->backward(*this, {n.attrs, n.facts, n.in, n.out, needs}, dy); });
  for (std::size_t i = 0; i < n.in.size() && i < dx.size(); ++i)
    if (needs[i] && dx[i] != kNoValue) parts[at(n.in[i])].push_back(dx[i]);
}

std::vector<ValueId> Graph::backward(ValueId target, ValueId seed, const std::vector<ValueId>& wrt) {
  check_id(target);
  check_id(seed);
  if (target == kNoValue) throw ValueError("backward: expected a value to differentiate");
  const struct Mode {  // whatever happens, later recordings are no gradients
    NodeId& differentiating;
    ~Mode() { differentiating = kNoNode; }
  } mode{differentiating_};
  const auto forward_nodes = static_cast<NodeId>(nodes_.size());
  std::vector<bool> needed(values_.size(), false);  // the gradient of this value is wanted on the way to wrt
  for (const ValueId v : wrt) {
    check_id(v);
    needed[at(v)] = true;
  }
  for (const auto& [v, batch] : batches_)  // the same tensor, seen as images
    if (value(batch).source == Source::kTensor && needed[at(v)]) needed[at(batch)] = true;
  for (const Node& n : nodes_) {
    bool any = false;
    for (const ValueId v : n.in) any = any || (v != kNoValue && needed[at(v)]);
    if (any)
      for (const ValueId v : n.out) needed[at(v)] = true;
  }
  if (seed == kNoValue) {
    check(desc(target).shape.numel() == 1, "backward: expected the gradient of a value of shape ",
          desc(target).shape, ": only one number can do without");
    Tensor one(desc(target).shape);
    *one.as<float>() = 1;
    seed = tensor(one, "");
    value(seed).one = true;
  } else if (desc(seed).shape != desc(target).shape || desc(seed).dtype != DType::kFloat32) {
    throw ValueError(str("backward: expected a float32 gradient of shape ", desc(target).shape, ", got ",
                         name_of(desc(seed).dtype), " ", desc(seed).shape));
  }
  std::vector<std::vector<ValueId>> parts(values_.size());
  parts[at(target)].push_back(seed);
  // All that arrived for v, as one sum.
  const auto gradient_of = [&](ValueId v) {
    std::vector<ValueId>& p = parts[at(v)];
    if (p.size() > 1) p = add("add", std::vector<ValueId>(p), {});
    return p.empty() ? kNoValue : p[0];
  };
  for (NodeId id = forward_nodes - 1; id >= 0; --id) {
    const Node n = nodes_[at(id)];  // a copy: the backward rule appends nodes
    differentiating_ = id;
    std::vector<ValueId> dy;
    std::vector<bool> needs;
    bool reached = false, any = false;
    for (const ValueId v : n.in) {
      needs.push_back(v != kNoValue && needed[at(v)]);
      any = any || needs.back();
    }
    for (const ValueId v : n.out) {
      dy.push_back(any ? gradient_of(v) : kNoValue);
      reached = reached || dy.back() != kNoValue;
    }
    if (reached && any) differentiate(n, dy, needs, parts);
  }
  differentiating_ = kNoNode;
  for (const auto& [v, batch] : batches_)
    if (value(batch).source == Source::kTensor && at(batch) < parts.size())
      parts[at(v)].insert(parts[at(v)].end(), parts[at(batch)].begin(), parts[at(batch)].end());
  std::vector<ValueId> out;
  for (const ValueId v : wrt) {
    differentiating_ = v == kNoValue ? kNoNode : value(v).producer;
    out.push_back(v == kNoValue ? kNoValue : gradient_of(v));
  }
  return out;
}

ops::Problem problem_of(const Graph& g, const Node& n, const ops::Context& context,
                        const std::vector<bool>* read) {
  ops::Problem p;
  p.context = context;
  p.facts = n.facts;
  p.implementation = n.implementation;
  p.before = n.before, p.after = n.after;
  p.inputs = g.descs(n.in), p.outputs = g.descs(n.out);
  for (const ValueId v : n.out) p.wanted.push_back(!read || (at(v) < read->size() && (*read)[at(v)]));
  return p;
}

}  // namespace fastcnn::graph

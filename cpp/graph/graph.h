// The recorded network: values and the nodes that make them, in the order they were recorded. No data, no
// layouts decided, no addresses: the passes add those (passes/passes.h), the plan runs the result (plan.h).
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "core/tensor.h"
#include "ops/op.h"

namespace fastcnn::graph {

using ops::Attrs;
using ops::kNoValue;
using ops::Layout;
using ops::TensorDesc;
using ops::ValueId;
using NodeId = std::int32_t;
constexpr NodeId kNoNode = -1;

template <class T>
std::size_t at(T id) {  // ids are small and not negative
  return static_cast<std::size_t>(id);
}

enum class Source : std::uint8_t { kNode, kInput, kTensor };

struct Value {
  TensorDesc desc;
  Source source = Source::kNode;
  bool one = false;                // the constant 1 that a backward pass starts from
  NodeId producer = kNoNode;       // position in nodes()
  int input = -1;                  // which run-time input, for Source::kInput
  int section = 0;                 // in which an input is bound
  ValueId slice_of = kNoValue;     // whose memory it lies in (passes/passes.h, slice) ...
  std::int64_t first_channel = 0;  // ... and from which channel on
  Tensor tensor;                   // parameters, running statistics, constants
  std::string name;                // "features.3.weight"; empty for most
};

struct Node {
  int id = 0;  // stays when the passes move nodes
  const ops::OpDef* op = nullptr;
  Attrs attrs;
  std::shared_ptr<const ops::Facts> facts;
  std::string implementation;    // the one asked for
  std::vector<ValueId> in, out;  // own operands, then those of the post-ops
  ops::PostOps before, after;
  std::vector<ValueId> writes;  // inputs whose memory it changes: parameters, running statistics
  std::vector<int> effects;     // ids of nodes that it must follow although it reads nothing of theirs
  std::string name;             // the layer's path
  NodeId forward = kNoNode;     // position of the node whose gradient this one computes
  bool gradient = false;        // it belongs to the backward pass
  int section = 0;
  Layout layout = Layout::kNHWC;  // where it computes: channels-last or batch-interleaved
  bool dead = false;
  bool alias = false;  // joins or cuts channels where they lie: nothing to do
};

class Graph final : public ops::GradBuilder {
 public:
  ValueId input(const Shape& shape, DType dtype, bool batched, const std::string& name);
  ValueId tensor(const Tensor& t, const std::string& name);

  // Records a call and returns its outputs. ValueError / TypeError begin with the layer: "Conv2d
  // 'features.3': ...". implementation: the one to force, or empty.
  std::vector<ValueId> record(const std::string& op, const std::vector<ValueId>& in, const Attrs& attrs,
                              const std::string& name, const std::string& label,
                              const std::string& implementation = "");

  // What is declared and recorded from here on belongs to the next section of a run.
  void barrier() { ++section_; }
  int sections() const { return section_ + 1; }

  // Gradients of `target` (seeded with `seed`, or with 1 when it is kNoValue) with respect to each of `wrt`;
  // kNoValue where target does not depend on it.
  std::vector<ValueId> backward(ValueId target, ValueId seed, const std::vector<ValueId>& wrt);

  // ops::GradBuilder
  std::vector<ValueId> add(const std::string& op, const std::vector<ValueId>& in,
                           const Attrs& attrs) override;
  const TensorDesc& desc(ValueId v) const override { return value(v).desc; }
  bool is_one(ValueId v) const override { return v >= 0 && value(v).one; }

  const Value& value(ValueId v) const { return values_[at(v)]; }
  Value& value(ValueId v) { return values_[at(v)]; }
  const std::vector<Node>& nodes() const { return nodes_; }
  std::vector<Node>& nodes() { return nodes_; }
  ValueId new_value(const TensorDesc& desc);
  std::vector<TensorDesc> descs(const std::vector<ValueId>& values) const;
  // A call with new values for its results, not yet among the nodes.
  Node node_of(const ops::OpDef& op, const Attrs& attrs, const std::vector<ValueId>& in);
  int new_id() { return next_id_++; }
  int id_count() const { return next_id_; }
  std::int64_t value_count() const { return static_cast<std::int64_t>(values_.size()); }
  std::int64_t input_count() const { return inputs_; }
  void check_id(ValueId v) const;
  // The tensor's memory that v is or may be a view of, or null.
  const Storage* memory_of(ValueId v) const;
  std::set<const Storage*> written() const;  // memories that some node changes

 private:
  struct Touched {  // a memory that some node writes or reads
    int writer = -1;
    std::vector<int> readers;  // since it was written last
  };

  std::vector<ValueId> append(const ops::OpDef& op, std::vector<ValueId> in, const Attrs& attrs,
                              const std::string& name, const std::string& implementation);
  void join_prefix(const ops::OpDef& op, std::vector<ValueId>& in) const;
  void note_effects(Node& n);
  void differentiate(const Node& n, const std::vector<ValueId>& dy, const std::vector<bool>& needs,
                     std::vector<std::vector<ValueId>>& parts);

  std::vector<Value> values_;
  std::vector<Node> nodes_;
  std::vector<ValueId> among_images(const ops::OpDef& op, const Attrs& attrs, std::vector<ValueId> in);
  ValueId as_batch(ValueId v);

  std::map<const Storage*, Touched> touched_;
  std::map<ValueId, ValueId> batches_;              // tensors that are used as images, seen as such
  std::map<std::vector<ValueId>, ValueId> joined_;  // inputs of joins of this section, and what they made
  std::int64_t inputs_ = 0;
  int next_id_ = 0, section_ = 0;
  NodeId differentiating_ = kNoNode;
};

// What the node asks its op for, with the layouts its values have now. read[v]: value v is read by someone;
// null: all are.
ops::Problem problem_of(const Graph& g, const Node& n, const ops::Context& context,
                        const std::vector<bool>* read);

}  // namespace fastcnn::graph

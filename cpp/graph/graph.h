// The recorded network: values and the nodes that make them, in the order they were recorded. No data, no
// layouts decided, no addresses: the passes add those (passes.h), the plan runs the result (plan.h).
#pragma once

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

enum class Source : std::uint8_t { kNode, kInput, kTensor, kOne };

struct Value {
  TensorDesc desc;
  Source source = Source::kNode;
  NodeId producer = kNoNode;
  int input = -1;    // which run-time input, for Source::kInput
  Tensor tensor;     // parameters, running statistics, constants
  std::string name;  // "features.3.weight"; empty for most
};

// Where a node computes: channels-last or batch-interleaved. Every batched value of a node lies accordingly.
enum class Mode : std::uint8_t { kChannelsLast, kInterleaved };

struct Node {
  const ops::OpDef* op = nullptr;
  Attrs attrs;
  std::vector<ValueId> in, out;  // own operands, then those of the fusion
  std::vector<ValueId> writes;   // inputs whose memory it changes: parameters, running statistics
  std::string name;              // the layer's path
  NodeId forward = kNoNode;      // the node whose gradient this one computes
  ops::Fusion fusion;
  Mode mode = Mode::kChannelsLast;
  bool dead = false;
};

class Graph final : public ops::GradBuilder {
 public:
  ValueId input(const Shape& shape, DType dtype, bool batched, const std::string& name);
  ValueId tensor(const Tensor& t, const std::string& name);

  // Records a call and returns its outputs. ValueError / TypeError begin with the layer: "Conv2d
  // 'features.3': ...".
  std::vector<ValueId> record(const std::string& op, const std::vector<ValueId>& in, const Attrs& attrs,
                              const std::string& name, const std::string& label);

  // Gradients of `target` (seeded with `seed`, or with 1 when it is kNoValue) with respect to each of `wrt`;
  // kNoValue where target does not depend on it.
  std::vector<ValueId> backward(ValueId target, ValueId seed, const std::vector<ValueId>& wrt);

  // ops::GradBuilder
  std::vector<ValueId> add(const std::string& op, const std::vector<ValueId>& in,
                           const Attrs& attrs) override;
  const TensorDesc& desc(ValueId v) const override { return value(v).desc; }
  bool is_one(ValueId v) const override { return v >= 0 && value(v).source == Source::kOne; }

  const Value& value(ValueId v) const { return values_[static_cast<std::size_t>(v)]; }
  Value& value(ValueId v) { return values_[static_cast<std::size_t>(v)]; }
  const std::vector<Node>& nodes() const { return nodes_; }
  std::vector<Node>& nodes() { return nodes_; }
  ValueId new_value(const TensorDesc& desc);
  std::int64_t value_count() const { return static_cast<std::int64_t>(values_.size()); }
  std::int64_t input_count() const { return inputs_; }
  void check_id(ValueId v) const;

 private:
  std::vector<ValueId> append(const ops::OpDef& op, const std::vector<ValueId>& in, const Attrs& attrs,
                              const std::string& name);

  std::vector<Value> values_;
  std::vector<Node> nodes_;
  std::int64_t inputs_ = 0;
  NodeId differentiating_ = kNoNode;
};

// What the node asks its op for, with the layouts its values have now. wanted[i]: output i is read by
// someone.
ops::Problem problem_of(const Graph& g, const Node& n, const std::vector<bool>& read);

}  // namespace fastcnn::graph

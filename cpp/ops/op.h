// What an op tells the rest of the house, in one place: its attributes, checks and output shapes, its
// backward rule, what it is to a neighbour, whether it may write in place, and its list of implementations.
// The graph's passes work from these facts and know no op's name.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "ops/attrs.h"
#include "ops/context.h"
#include "ops/desc.h"
#include "ops/posts.h"
#include "ops/scratch.h"

namespace fastcnn::ops {

// What an op worked out from attributes and shapes when the call was recorded; each op derives its own.
struct Facts {
  virtual ~Facts() = default;
};

template <class T>
struct FactOf : Facts {  // facts that are one value
  explicit FactOf(T v) : value(std::move(v)) {}
  T value;
};
template <class T>
std::shared_ptr<const Facts> fact(T value) {
  return std::make_shared<FactOf<T>>(std::move(value));
}
template <class T>
const T& value_of(const Facts* facts) {
  return static_cast<const FactOf<T>*>(facts)->value;
}

// One call to prepare for: everything that is known before the data is.
struct Problem {
  Context context;
  std::shared_ptr<const Facts> facts;
  std::string implementation;       // the one asked for by name; empty: any
  std::vector<TensorDesc> inputs;   // own inputs, then those of the post-ops; absent ones are marked
  std::vector<TensorDesc> outputs;  // own outputs, then those of the post-ops
  std::vector<bool> wanted;         // per output: false = nobody reads it
  PostOps before;                   // on input 0, on the way in (kFunctionGrad)
  PostOps after;                    // on output 0

  const KernelTable& kernels() const { return *context.kernels; }
  // Somebody reads output i. Where not, its pointer may be null if the op says so (OpDef::optional_output).
  bool wants(std::size_t i) const { return i >= wanted.size() || wanted[i]; }
};
template <class T>
const T& facts_of(const Problem& p) {
  return static_cast<const T&>(*p.facts);
}

struct RunArgs {
  const void* const* in;      // per input; null where absent
  void* const* out;           // per output; null where there is no memory for it
  const std::byte* packed;    // what pack() wrote
  std::byte* shared;          // shared_bytes(): lives from the first stage to the last
  double* seconds = nullptr;  // of the parts of a step, [thread][part]; null when nobody measures
};

// Who carries out an item.
struct Worker {
  int index;       // of the thread: 0 .. threads - 1
  std::byte* own;  // thread_bytes(): undefined at the start of an item
};

// An implementation bound to a problem. It cuts its work into stages that follow one another, and each stage
// into items that may run in any order and at the same time; the executor owns the loop (ops/execute.h).
// Items are fixed by the problem, never by the number of threads. Running one allocates nothing, decides
// nothing and cannot fail.
class Prepared {
 public:
  virtual ~Prepared() = default;
  const std::vector<std::int64_t>& stages() const { return stages_; }  // items of each
  virtual void item(const RunArgs& a, int stage, std::int64_t i, const Worker& w) const = 0;
  virtual std::size_t shared_bytes() const {
    return shared_.bytes();
  }  // both 64-byte aligned, contents undefined
  virtual std::size_t thread_bytes() const { return own_.bytes(); }
  // Weights in the implementation's own order: written by pack() whenever what it reads has changed, kept by
  // the plan otherwise.
  virtual std::size_t packed_bytes() const { return 0; }
  virtual std::int64_t pack_items() const { return 1; }
  virtual void pack(const void* const* in, std::byte* packed, std::int64_t item) const {}
  virtual bool packs_from(int input) const { return input == 1; }  // whether pack() reads input i
  // Output 0 is input 0's memory: no item is ever run.
  virtual bool is_view() const { return false; }
  // The face that can run slice by slice in a segment, if there is one (ops/sliced.h).
  virtual const class Sliced* as_sliced() const { return nullptr; }
  // Tiles and blocks chosen, for plan.describe().
  virtual std::string detail() const { return ""; }

 protected:
  std::vector<std::int64_t> stages_ = {1};
  Book shared_, own_;  // for all threads, for each
};

struct Impl {
  const char* name;                         // "winograd4x4"; printed as conv2d:winograd4x4:avx512
  std::string (*declines)(const Problem&);  // empty: it takes the problem; else a sentence that says why not
  std::unique_ptr<Prepared> (*prepare)(const Problem&);
  bool sliced = false;  // what it prepares for interleaved values is Sliced
};

using ValueId = std::int32_t;
using ValueIds = std::vector<ValueId>;
constexpr ValueId kNoValue = -1;

// What a backward rule builds with. The graph implements it.
class GradBuilder {
 public:
  virtual ~GradBuilder() = default;
  virtual std::vector<ValueId> add(const std::string& op, const std::vector<ValueId>& inputs,
                                   const Attrs& attrs) = 0;
  virtual const TensorDesc& desc(ValueId v) const = 0;  // valid until the next add()
  // Whether v is the constant 1 that a backward pass starts from: a product with it can be left out.
  virtual bool is_one(ValueId v) const { return false; }
};

// A recorded call, as its backward rule sees it.
struct Call {
  const Attrs& attrs;  // complete
  const std::shared_ptr<const Facts>& facts;
  const std::vector<ValueId>& inputs;  // kNoValue where absent
  const std::vector<ValueId>& outputs;
  std::vector<bool> needs;  // per input: is its gradient wanted
};

struct Cost {
  double flops = 0;       // multiply and add counted apart
  double efficiency = 0;  // share of the FMA peak these flops reach in p's layout; 0: bound by memory
};

struct Inferred {
  std::vector<TensorDesc> outputs;
  std::shared_ptr<const Facts> facts = nullptr;
};

// An op whose result can be scaled and shifted per channel by changing its weight and bias.
struct FoldSite {
  int weight = -1, bias = -1;  // inputs; weight -1: it cannot
  int axis = 0;                // dimension of the weight that counts the result's channels
};
// y = gamma (x - mean) / sqrt(var + eps) + beta per channel, of running statistics: where its operands stand.
struct ChannelAffine {
  int mean = -1, var = -1, gamma = -1, beta = -1;  // inputs; mean -1: it is none
  double eps = 0;
};

class OpDef {
 public:
  // flops: per element of input 0, for the default of cost().
  OpDef(std::string name, std::vector<AttrSpec> attributes, std::vector<Impl> cpu, double flops = 1)
      : name_(std::move(name)), attributes_(std::move(attributes)), cpu_(std::move(cpu)), flops_(flops) {}
  virtual ~OpDef() = default;
  const char* name() const { return name_.c_str(); }
  const std::vector<AttrSpec>& attributes() const { return attributes_; }
  const std::vector<Impl>& implementations(Device) const { return cpu_; }  // most special first

  // Shapes and types of the outputs, and the op's facts. Throws ValueError / TypeError whose text does not
  // name the op: the caller puts "conv2d: " or "Conv2d 'features.3': " in front. attrs are complete. Does not
  // look at layouts.
  virtual Inferred infer(const Attrs& attrs, const std::vector<TensorDesc>& in) const = 0;
  // Whether input i carries the batch in dimension 0 (parameters, per-channel vectors and scalars do not).
  virtual bool batched_input(int i) const { return true; }
  // Whether input i may lie in any layout: the layout pass leaves it where it is.
  virtual bool any_layout(int i) const { return false; }

  // Gradients of the inputs (kNoValue where not needed), given those of the outputs (kNoValue where zero).
  // Called where one of each is there.
  virtual std::vector<ValueId> backward(GradBuilder& g, const Call& call,
                                        const std::vector<ValueId>& dy) const;
  virtual Cost cost(const Problem& p) const {
    return {flops_ * static_cast<double>(p.inputs[0].shape.numel())};
  }

  // What the op is to a neighbour that could do it as a post-op; kNone: nothing.
  virtual PostOp as_post(const Facts* facts) const { return {}; }
  virtual FoldSite fold_site(const Facts* facts) const { return {}; }
  virtual ChannelAffine channel_affine(const Facts* facts) const { return {}; }
  // Whether input i is written in place (parameters, running statistics): the node has an effect of its own,
  // keeps its place among the others that touch that input, and is never dropped.
  virtual bool updates(int input) const { return false; }
  // Whether output i may be left out (null) where nobody reads it; all others get memory.
  virtual bool optional_output(int i) const { return false; }
  // Index of an input whose buffer output 0 may take when nobody else reads it later; -1: none.
  virtual int in_place(const Problem& p) const { return -1; }
  // Output 0 may be a view of input 0.
  virtual bool may_alias() const { return false; }
  // Output 0 is no more than a pass over input 0, which often stays anyway: worth computing twice where that
  // saves memory.
  virtual bool cheap_to_repeat() const { return false; }
  // Inputs lie side by side, channels after channels, in output 0 (concat): where every one of them can be
  // placed there, nothing is left to do.
  virtual bool joins_channels() const { return false; }
  // Output 0 is channels [first_channel, ...) of input 0 (slice_channels); -1: it is not.
  virtual std::int64_t first_channel(const Facts* facts) const { return -1; }

 private:
  std::string name_;
  std::vector<AttrSpec> attributes_;
  std::vector<Impl> cpu_;
  double flops_;
};

// By name; ValueError that lists near names when there is none.
const OpDef& find_op(const std::string& name);
std::vector<std::string> op_names();

struct Choice {
  std::string name;  // "conv2d:direct:avx512"
  const Impl* impl = nullptr;
};
// Walks the op's list for the one that takes p. ValueError with every reason when none does;
// FASTCNN_VERBOSE=dispatch prints what was chosen and why others declined.
Choice choose(const OpDef& op, const Problem& p);
// The one that takes p, or null; `reasons`, if given, collects what the others said.
const Impl* taker(const OpDef& op, const Problem& p, std::string* reasons = nullptr);

}  // namespace fastcnn::ops

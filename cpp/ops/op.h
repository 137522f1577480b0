// What an op tells the rest of the house, in one place: its checks and output shapes, its backward rule, the
// neighbours it can absorb, whether it may write in place, and its list of implementations with the layouts
// each takes. The graph's passes work from these facts and know no op's name.
//
// Logical shapes are NCHW (weights OIHW) everywhere in this interface; Layout says where the elements lie.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "core/error.h"
#include "core/shape.h"
#include "ops/attrs.h"

namespace fastcnn::ops {

enum class Layout : std::uint8_t {
  kPlain,        // row-major in the logical order: NCHW, OIHW, [N, F]
  kNHWC,         // [N][H][W][C]; for rank 2 the same memory as kPlain
  kInterleaved,  // [ceil(N / B)][C][H][W][B] with B = kernels().width; lanes past N hold anything finite
};
const char* name_of(Layout layout);

struct TensorDesc {
  Shape shape;
  DType dtype = DType::kFloat32;
  Layout layout = Layout::kPlain;
  bool batched = false;  // dimension 0 is the batch; only such float values of rank 2 and 4 leave kPlain
  bool absent = false;   // an optional input that is not given

  bool takes_layout() const {
    return batched && dtype == DType::kFloat32 && (shape.rank() == 2 || shape.rank() == 4);
  }
};
TensorDesc absent_desc();
std::int64_t storage_elements(const TensorDesc& d);  // kInterleaved rounds the batch up to whole blocks
std::int64_t storage_bytes(const TensorDesc& d);
// Whether two layouts of this shape are the same bytes (C == 1, H W == 1, rank 2, ...).
bool same_memory(const TensorDesc& d, Layout a, Layout b);

enum class Activation : std::uint8_t { kNone, kRelu, kTanh, kSigmoid };

// What an op is to a neighbour that could absorb it.
enum class Role : std::uint8_t {
  kNone,
  kActivation,           // y = f(x), elementwise
  kAdd,                  // y = a + b, equal shapes
  kPool,                 // max or average windows
  kStatistics,           // batch-norm statistics of x
  kChannelAffine,        // y = x * scale[c] + shift[c] (batch norm in inference); folded into weights
  kActivationGrad,       // dx = dy * f'(y), elementwise, inputs (dy, y); asked of the op that takes dx
  kActivationGradAfter,  // the same, asked of the op that makes dy
};

struct PoolSpec {
  enum Kind : std::uint8_t { kNone, kMax, kAverage } kind = kNone;
  std::int64_t kernel[2] = {1, 1},
               stride[2] = {1, 1};  // absorbed pools have no padding and no partial windows
};

// What a fused step does besides its own op. Extra inputs and outputs follow the op's own, in this order:
//   inputs:  [statistics: running_mean, running_var] [add: residual] [act_grad, act_grad_after: the
//   activation's output y]
//   outputs: [statistics: mean, rstd] [pool: the value before the pool, if keep_unpooled] [act_grad: masked
//   dy, if keep_masked]
struct Fusion {
  Activation act_grad = Activation::kNone;  // applied to input 0 (dy) before the op: dy * f'(y)
  bool keep_masked = false;
  bool statistics = false;
  double momentum = 0.1, eps = 1e-5;  // of the statistics
  bool add = false;                   // y += residual
  Activation activation = Activation::kNone;
  PoolSpec pool;  // output 0 is then the pooled value
  bool keep_unpooled = false;
  Activation act_grad_after = Activation::kNone;  // output 0 is a gradient that still meets f': out * f'(y)

  bool empty() const {
    return act_grad == Activation::kNone && !statistics && !add && activation == Activation::kNone &&
           pool.kind == PoolSpec::kNone && act_grad_after == Activation::kNone;
  }
};

// One call to prepare for: everything that is known before the data is.
struct Problem {
  Attrs attrs;
  std::vector<TensorDesc> inputs;   // own inputs, then those of the fusion; absent ones are marked
  std::vector<TensorDesc> outputs;  // own outputs, then those of the fusion
  std::vector<bool> wanted;         // per output: false = nobody reads it, its pointer may be null
  Fusion fusion;
};

struct RunArgs {
  const void* const* in;    // per input; null where absent
  void* const* out;         // per output; null where not wanted
  const std::byte* packed;  // what pack() wrote
  std::byte* scratch;       // scratch_bytes(), 64-byte aligned, contents undefined
};

// An implementation bound to a problem. Running it allocates nothing, decides nothing and cannot fail.
class Prepared {
 public:
  virtual ~Prepared() = default;
  virtual void run(const RunArgs& a) const = 0;
  // For the thread count at preparation; run() uses at most that many.
  virtual std::size_t scratch_bytes() const { return 0; }
  // Weights in the implementation's own order: written by pack() whenever the parameters changed, kept by the
  // plan in inference. pack() reads only the inputs that are parameters.
  virtual std::size_t packed_bytes() const { return 0; }
  virtual void pack(const void* const* in, std::byte* packed) const {}
  // Output 0 is input 0's memory: run() is never called.
  virtual bool is_view() const { return false; }
  // The block-wise face, if there is one (ops/block.h).
  virtual const class BlockOp* as_block_op() const { return nullptr; }
  // Tiles and blocks chosen, for plan.describe().
  virtual std::string detail() const { return ""; }
};

struct Impl {
  const char* name;                         // "winograd4x4"; printed as conv2d:winograd4x4:avx512
  std::string (*declines)(const Problem&);  // empty: it takes the problem; else a sentence that says why not
  std::unique_ptr<Prepared> (*prepare)(const Problem&);
};

using ValueId = std::int32_t;
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
  const Attrs& attrs;
  const std::vector<ValueId>& inputs;  // kNoValue where absent
  const std::vector<ValueId>& outputs;
  std::vector<bool> needs;  // per input: is its gradient wanted
};

struct Cost {
  double flops = 0;  // multiply and add counted apart
  double efficiency =
      0;  // share of the FMA peak these flops reach in p's layout; 0: bound by memory, not by flops
};

class OpDef {
 public:
  virtual ~OpDef() = default;
  virtual const char* name() const = 0;
  // Shapes and types of the outputs. Throws ValueError / TypeError whose text does not name the op: the
  // caller puts "conv2d: " or "Conv2d 'features.3': " in front. Does not look at layouts.
  virtual std::vector<TensorDesc> infer(const Attrs& attrs, const std::vector<TensorDesc>& in) const = 0;
  virtual const std::vector<Impl>& implementations() const = 0;  // most special first, the plain one last
  // Whether input i carries the batch in dimension 0 (parameters, per-channel vectors and scalars do not).
  virtual bool batched_input(int i) const = 0;

  // Gradients of the inputs (kNoValue where not needed), given those of the outputs (kNoValue where zero).
  virtual std::vector<ValueId> backward(GradBuilder& g, const Call& call,
                                        const std::vector<ValueId>& dy) const;
  virtual Cost cost(const Problem& p) const;  // default: one flop per output element

  virtual Role role(const Attrs& attrs) const { return Role::kNone; }
  virtual Activation activation(const Attrs& attrs) const {
    return Activation::kNone;
  }  // roles kActivation(Grad)
  virtual PoolSpec pool(const Attrs& attrs) const { return {}; }  // role kPool; kind kNone: not absorbable
  // May `role` follow (kActivationGrad alone: precede, on input 0) this op in one step, after what it
  // absorbed already?
  virtual bool absorbs(Role role, const Fusion& so_far, const Attrs& attrs) const { return false; }
  // Whether input i is written in place (parameters, running statistics): the node has an effect of its own,
  // runs after everybody recorded before it who reads that input, and is never dropped.
  virtual bool updates(int input) const { return false; }
  // Index of an input whose buffer output 0 may take when nobody else reads it later; -1: none.
  virtual int in_place(const Problem& p) const { return -1; }
};

// By name; ValueError that lists near names when there is none.
const OpDef& find_op(const std::string& name);
std::vector<std::string> op_names();

struct Choice {
  std::string name;  // "conv2d:direct:avx512"
  std::unique_ptr<Prepared> prepared;
};
// Walks the op's list. Attr "implementation" names one to force. ValueError with every reason when none takes
// it; FASTCNN_VERBOSE=dispatch prints what was chosen and why others declined.
Choice choose(const OpDef& op, const Problem& p);
// The reason why none would take it, or empty: asked by the passes.
std::string why_not(const OpDef& op, const Problem& p);
// Whether what would be chosen works block by block (ops/block.h).
bool blockwise(const OpDef& op, const Problem& p);

}  // namespace fastcnn::ops

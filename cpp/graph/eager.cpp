#include "graph/eager.h"

#include <cstring>
#include <set>

#include "core/parallel.h"
#include "ops/execute.h"

namespace fastcnn::graph {
namespace {

using ops::Layout;
using ops::Problem;
using ops::TensorDesc;

Tensor storage_for(const TensorDesc& d) { return Tensor(Shape{ops::storage_elements(d)}, d.dtype); }

void run_prepared(const ops::Prepared& op, const std::vector<const void*>& in, const std::vector<void*>& out,
                  int threads) {
  const Tensor packed(Shape{static_cast<std::int64_t>(op.packed_bytes())}, DType::kUInt8);
  const Tensor scratch(Shape{static_cast<std::int64_t>(ops::scratch_bytes(op, threads))}, DType::kUInt8);
  if (packed.bytes()) ops::pack(op, in.data(), packed.as<std::byte>());
  ops::execute(op, {in.data(), out.data(), packed.as<std::byte>(), nullptr}, scratch.as<std::byte>(),
               threads);
}

// Same value, other layout: through the op that does it in a plan too.
Tensor converted(const Tensor& t, const TensorDesc& from, const TensorDesc& to, const ops::Context& context) {
  Tensor out = storage_for(to);
  if (to.shape.numel() == 0) return out;
  const ops::OpDef& op = ops::find_op("convert");
  Problem p;
  p.context = context;
  p.facts = op.infer(ops::checked(op.attributes(), {}), {from}).facts;
  p.inputs = {from}, p.outputs = {to}, p.wanted = {true};
  run_prepared(*ops::choose(op, p).impl->prepare(p), {t.data()}, {out.data()}, context.threads);
  return out;
}

std::vector<Tensor> run_in(const ops::OpDef& op, const Problem& p, const std::vector<Tensor>& inputs) {
  const auto prepared = ops::choose(op, p).impl->prepare(p);
  const int threads = p.context.threads;
  std::vector<Tensor> held = inputs, out;
  const auto plain = [](TensorDesc d) {
    d.layout = Layout::kPlain, d.block = 0;
    return d;
  };
  for (std::size_t i = 0; i < held.size(); ++i)
    if (!p.inputs[i].absent && !ops::same_memory(plain(p.inputs[i]), Layout::kPlain, p.inputs[i].layout))
      held[i] = converted(held[i], plain(p.inputs[i]), p.inputs[i], p.context);
  std::vector<const void*> in_ptr;
  std::vector<void*> out_ptr;
  for (const Tensor& t : held) in_ptr.push_back(t.data());
  for (const TensorDesc& d : p.outputs) {
    out.push_back(storage_for(d));
    out_ptr.push_back(out.back().data());
  }
  if (prepared->is_view())
    std::memcpy(out_ptr[0], in_ptr[0], static_cast<std::size_t>(ops::storage_bytes(p.outputs[0])));
  else
    run_prepared(*prepared, in_ptr, out_ptr, threads);
  for (std::size_t i = 0; i < out.size(); ++i) {
    const TensorDesc d = plain(p.outputs[i]);
    if (!ops::same_memory(d, Layout::kPlain, p.outputs[i].layout))
      out[i] = converted(out[i], p.outputs[i], d, p.context);
    out[i] = Tensor(out[i].storage(), d.shape, d.dtype);
  }
  return out;
}

std::vector<Layout> layouts_named(const std::string& name) {
  if (name == "auto") return {Layout::kPlain, Layout::kNHWC, Layout::kInterleaved};
  for (const Layout l : {Layout::kPlain, Layout::kNHWC, Layout::kInterleaved})
    if (name == ops::name_of(l)) return {l};
  throw ValueError(str("layout: expected auto, nchw, nhwc or interleaved, got '", name, "'"));
}

// The memories that the call reads and updates, each once.
struct Locks {
  std::vector<Lockable*> read, write;
  Locks(const ops::OpDef& op, const std::vector<Tensor>& inputs) {
    std::set<Lockable*> reads, writes;
    for (std::size_t i = 0; i < inputs.size(); ++i)
      if (inputs[i].defined())
        (op.updates(static_cast<int>(i)) ? writes : reads).insert(inputs[i].storage().get());
    for (Lockable* l : writes) reads.erase(l);
    read.assign(reads.begin(), reads.end()), write.assign(writes.begin(), writes.end());
  }
};

std::vector<Tensor> run_checked(const ops::OpDef& op, const std::vector<Tensor>& inputs,
                                const ops::Attrs& attrs, const std::string& layout,
                                const std::string& implementation) {
  std::vector<TensorDesc> in;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    TensorDesc d = ops::absent_desc();
    if (inputs[i].defined()) {
      d.absent = false, d.shape = inputs[i].shape(), d.dtype = inputs[i].dtype();
      d.batched = d.shape.rank() > 0 && op.batched_input(static_cast<int>(i));
    }
    in.push_back(d);
  }
  ops::Inferred inferred = op.infer(ops::checked(op.attributes(), attrs), in);
  Problem p;
  p.context = ops::current_context();
  p.facts = inferred.facts;
  p.implementation = implementation;
  p.wanted.assign(inferred.outputs.size(), true);
  const Locks locks(op, inputs);
  std::string reasons;
  for (const Layout l : layouts_named(layout)) {
    const auto placed = [&](std::vector<TensorDesc> list) {
      for (TensorDesc& d : list) d = ops::placed(d, l, p.context.kernels->width);
      return list;
    };
    p.inputs = placed(in), p.outputs = placed(inferred.outputs);
    std::string why;
    if (!ops::taker(op, p, &why)) {
      reasons += str(reasons.empty() ? "" : "; ", name_of(l), ": ", why);
      continue;
    }
    const ThreadScope scope(p.context.threads);
    const Access access(locks.read, locks.write);
    std::vector<Tensor> out = run_in(op, p, inputs);
    for (std::size_t i = 0; i < inputs.size(); ++i)
      if (inputs[i].defined() && op.updates(static_cast<int>(i))) inputs[i].storage()->touch();
    return out;
  }
  throw ValueError(str("no implementation takes this problem: ", reasons));
}

}  // namespace

std::vector<Tensor> run_eager(const std::string& name, const std::vector<Tensor>& inputs,
                              const ops::Attrs& attrs, const std::string& layout,
                              const std::string& implementation) {
  const ops::OpDef& op = ops::find_op(name);
  return in_the_name_of(name, [&] { return run_checked(op, inputs, attrs, layout, implementation); });
}

}  // namespace fastcnn::graph

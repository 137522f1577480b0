#include "ops/eager.h"

#include <cstring>

#include "kernels/table.h"

namespace fastcnn::ops {
namespace {

Problem problem_in(Layout layout, const Attrs& attrs, const std::vector<TensorDesc>& in,
                   const std::vector<TensorDesc>& out) {
  Problem p{attrs, in, out, std::vector<bool>(out.size(), true), {}};
  const auto place = [layout](TensorDesc& d) {
    // The integer companion of a pooled value (its argmax) lies as the value does.
    const bool index = d.batched && d.dtype != DType::kFloat32 && d.shape.rank() == 4;
    if (!d.absent && (d.takes_layout() || index))
      d.layout = layout == Layout::kNHWC && d.shape.rank() == 2 ? Layout::kPlain : layout;
  };
  for (TensorDesc& d : p.inputs) place(d);
  for (TensorDesc& d : p.outputs) place(d);
  return p;
}

Tensor storage_for(const TensorDesc& d) { return Tensor(Shape{storage_elements(d)}, d.dtype); }

// Same value, other layout: through the op that does it in a plan too.
Tensor converted(const Tensor& t, TensorDesc from, TensorDesc to) {
  Tensor out = storage_for(to);
  if (to.shape.numel() == 0) return out;
  const Problem p{{}, {from}, {to}, {true}, {}};
  const Choice c = choose(find_op("convert"), p);
  const Tensor scratch(Shape{static_cast<std::int64_t>(c.prepared->scratch_bytes())}, DType::kUInt8);
  const void* in[] = {t.data()};
  void* dst[] = {out.data()};
  c.prepared->run({in, dst, nullptr, scratch.as<std::byte>()});
  return out;
}

std::vector<Tensor> run_in(const OpDef& op, const Problem& p, const std::vector<Tensor>& inputs) {
  const Choice c = choose(op, p);
  std::vector<Tensor> held = inputs, out;
  for (std::size_t i = 0; i < held.size(); ++i) {
    TensorDesc plain = p.inputs[i];
    plain.layout = Layout::kPlain;
    if (!p.inputs[i].absent && !same_memory(plain, plain.layout, p.inputs[i].layout))
      held[i] = converted(held[i], plain, p.inputs[i]);
  }
  std::vector<const void*> in_ptr;
  std::vector<void*> out_ptr;
  for (const Tensor& t : held) in_ptr.push_back(t.data());
  for (const TensorDesc& d : p.outputs) {
    out.push_back(storage_for(d));
    out_ptr.push_back(out.back().data());
  }
  if (c.prepared->is_view()) {
    std::memcpy(out_ptr[0], in_ptr[0], static_cast<std::size_t>(storage_bytes(p.outputs[0])));
  } else {
    const Tensor packed(Shape{static_cast<std::int64_t>(c.prepared->packed_bytes())}, DType::kUInt8);
    const Tensor scratch(Shape{static_cast<std::int64_t>(c.prepared->scratch_bytes())}, DType::kUInt8);
    if (packed.bytes()) c.prepared->pack(in_ptr.data(), packed.as<std::byte>());
    c.prepared->run({in_ptr.data(), out_ptr.data(), packed.as<std::byte>(), scratch.as<std::byte>()});
  }
  for (std::size_t i = 0; i < out.size(); ++i) {
    TensorDesc plain = p.outputs[i];
    plain.layout = Layout::kPlain;
    if (same_memory(plain, plain.layout, p.outputs[i].layout))
      out[i] = Tensor(out[i].storage(), plain.shape, plain.dtype);
    else
      out[i] = Tensor(converted(out[i], p.outputs[i], plain).storage(), plain.shape, plain.dtype);
  }
  return out;
}

}  // namespace

std::vector<Tensor> run_eager(const std::string& name, const std::vector<Tensor>& inputs, const Attrs& attrs,
                              const std::string& layout) {
  const OpDef& op = find_op(name);
  std::vector<TensorDesc> in, out;
  for (const Tensor& t : inputs) {
    TensorDesc d = absent_desc();
    if (t.defined()) d = {t.shape(), t.dtype(), Layout::kPlain, t.shape().rank() > 0, false};
    in.push_back(d);
  }
  try {
    // Which inputs carry a batch is the op's to say; it marks its outputs, and reads only shapes here.
    out = op.infer(attrs, in);
    for (std::size_t i = 0; i < in.size(); ++i)
      in[i].batched = op.batched_input(static_cast<int>(i)) && !in[i].absent;
    std::vector<Layout> tries;
    if (layout == "auto")
      tries = {Layout::kPlain, Layout::kNHWC, Layout::kInterleaved};
    else if (layout == "nchw")
      tries = {Layout::kPlain};
    else if (layout == "nhwc")
      tries = {Layout::kNHWC};
    else if (layout == "interleaved")
      tries = {Layout::kInterleaved};
    else
      throw ValueError(str("layout: expected auto, nchw, nhwc or interleaved, got '", layout, "'"));
    std::string reasons;
    for (const Layout l : tries) {
      const Problem p = problem_in(l, attrs, in, out);
      const std::string why = why_not(op, p);
      if (why.empty()) return run_in(op, p, inputs);
      reasons += str(reasons.empty() ? "" : "; ", name_of(l), ": ", why);
    }
    throw ValueError(str("no implementation takes this problem: ", reasons));
  } catch (const ValueError& e) {
    throw ValueError(str(name, ": ", e.what()));
  } catch (const TypeError& e) {
    throw TypeError(str(name, ": ", e.what()));
  }
}

}  // namespace fastcnn::ops

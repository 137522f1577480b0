// Slices: a value that is joined to others along the channels lives in the memory of what they make together,
// and a cut is only another view of what it was cut from, wherever the implementations that write and read it
// take values with a pitch. Then joining and cutting move nothing.
#include <algorithm>

#include "graph/passes/passes.h"

namespace fastcnn::graph {
namespace {

class Slicer : Pass {
 public:
  using Pass::Pass;

  void run() {
    // Last first: what a join makes has its place before its parts get theirs.
    for (std::size_t i = g_.nodes().size(); i-- > 0;)
      if (g_.nodes()[i].op->joins_channels()) join(i);
    for (std::size_t i = 0; i < g_.nodes().size(); ++i) {
      const Node& n = g_.nodes()[i];
      const std::int64_t first = n.op->first_channel(n.facts.get());
      if (first >= 0) cut(i, first);
    }
    insert_before(p_, std::move(made_));
  }

 private:
  bool taken(const Node& n) const { return n.alias || taker(n); }

  // Puts v at channel `first` of what `whole` is, if everybody who writes or reads it takes that.
  bool put(ValueId v, ValueId whole, std::int64_t first) {
    Value& value = g_.value(v);
    if (value.source != Source::kNode || p_.is_output(v) || value.slice_of != kNoValue ||
        value.desc.layout != g_.desc(whole).layout)
      return false;
    // All of it: dense, so a step that can be a view would be one, of memory elsewhere.
    const ops::OpDef& maker = *node(value.producer).op;
    if (value.desc.shape[1] == pitch_of(whole) && maker.may_alias() && !maker.joins_channels()) return false;
    const TensorDesc before = value.desc;
    value.desc.pitch = pitch_of(whole);
    value.slice_of = whole, value.first_channel = first;
    bool fits = taken(node(value.producer));
    for (const NodeId r : readers_.of[at(v)]) fits = fits && taken(node(r));
    if (!fits) value.desc = before, value.slice_of = kNoValue, value.first_channel = 0;
    return fits;
  }

  std::int64_t pitch_of(ValueId v) const {
    const TensorDesc& d = g_.desc(v);
    return d.pitch ? d.pitch : d.shape[1];
  }

  // The memory that v lies in, and at which of its channels.
  std::pair<ValueId, std::int64_t> place_of(ValueId v) const {
    std::int64_t first = 0;
    for (; g_.value(v).slice_of != kNoValue; v = g_.value(v).slice_of) first += g_.value(v).first_channel;
    return {v, first};
  }

  void join(std::size_t i) {
    Node& n = g_.nodes()[i];
    const ValueId whole = n.out[0];
    if (!ops::takes_layout(g_.desc(whole)) || p_.is_output(place_of(whole).first)) return;
    n.alias = true;  // its own readers and parts are asked as if nothing were left to do
    std::int64_t first = 0;
    for (std::size_t k = 0; k < n.in.size(); ++k) {
      const ValueId v = n.in[k];
      const std::int64_t channels = g_.desc(v).shape[1];
      const bool repeated = std::find(n.in.begin(), n.in.begin() + static_cast<std::ptrdiff_t>(k), v) !=
                            n.in.begin() + static_cast<std::ptrdiff_t>(k);
      if (repeated || !put(v, whole, first)) copy_into(i, k, whole, first);
      first += channels;
    }
  }

  // Operand k of the join at position i is copied to its place.
  void copy_into(std::size_t i, std::size_t k, ValueId whole, std::int64_t first) {
    const ValueId v = g_.nodes()[i].in[k];
    Node copy = conversion(p_, v, g_.desc(whole).layout, g_.nodes()[i], true);
    Value& made = g_.value(copy.out[0]);
    made.desc.pitch = pitch_of(whole);
    made.slice_of = whole, made.first_channel = first;
    g_.nodes()[i].in[k] = copy.out[0];
    made_.emplace_back(i, std::move(copy));
  }

  // What is cut from a value's channels is a view of them.
  void cut(std::size_t i, std::int64_t first) {
    Node& n = g_.nodes()[i];
    const ValueId from = n.in[0], to = n.out[0];
    Value& value = g_.value(to);
    if (value.slice_of != kNoValue || p_.is_output(to) || !ops::takes_layout(value.desc) ||
        g_.desc(from).layout != value.desc.layout || g_.value(from).source == Source::kTensor)
      return;
    const TensorDesc before = value.desc;
    value.desc.pitch = pitch_of(from);
    bool fits = true;
    for (const NodeId r : readers_.of[at(to)]) fits = fits && taken(node(r));
    if (!fits) {
      value.desc = before;
      return;
    }
    value.slice_of = from, value.first_channel = first;
    n.alias = true;
  }
};

}  // namespace

void slice(Program& p) { Slicer(p).run(); }

}  // namespace fastcnn::graph

// Builds a plan: the passes, an implementation for every node, the order, a place for every operand, and what
// has to be locked and watched.
#include "graph/plan.h"

#include <algorithm>
#include <set>
#include <stdexcept>

#include "core/poison.h"
#include "graph/plan_memory.h"
#include "graph/segment.h"
#include "ops/execute.h"

namespace fastcnn::graph {

bool Watch::stale() const {
  if (!made_) return true;
  for (const Storage* s : storages_)
    if (s->exported()) return true;  // an array of it is out in the world: it may change at any moment
  return stamp() != seen_;
}

void Watch::note() { made_ = true, seen_ = stamp(); }

std::uint64_t Watch::stamp() const {
  std::uint64_t sum = 0;  // versions only grow, so their sum tells every change
  for (const Storage* s : storages_) sum += s->version();
  return sum;
}

Plan::Plan(Graph graph, std::vector<ValueId> outputs, const std::string& layout, const ops::Context& context)
    : program_{std::move(graph), std::move(outputs), context, {}} {
  for (const ValueId v : program_.outputs) {
    program_.graph.check_id(v);
    if (v == kNoValue) throw ValueError("a plan's output must be a value");
  }
  bool laid_out = false;
  const auto pass = [&](const char* name, auto&& run) {
    run(program_);
    if (poisons()) verify(program_, name, laid_out);
  };
  pass("prune", prune);
  pass("fold", fold_affine);
  pass("prune", prune);
  laid_out = true;
  pass("place", [&](Program& p) { place(p, layout); });
  pass("slice", slice);
  pass("repeat", repeat);
  pass("fuse", fuse);
  plan_nodes();
  find_sections();
  find_roots();
  const std::vector<LaunchOrder> order = schedule(program_, planned_);
  const std::vector<std::int64_t> local_bytes = MemoryPlanner(*this, order).run();
  watch_prologue();
  build(order, local_bytes);
  find_needs();
}

void Plan::plan_node(const Node& n, const std::vector<bool>& read) {
  PlannedNode p;
  p.problem = problem_of(graph(), n, context(), &read);
  p.view = n.alias;
  if (!n.alias) {
    p.choice =
        in_the_name_of(str(n.op->name(), " '", n.name, "'"), [&] { return ops::choose(*n.op, p.problem); });
    p.prepared = p.choice.impl->prepare(p.problem);
    p.view = p.prepared->is_view();
  }
  planned_.push_back(std::move(p));
}

void Plan::plan_nodes() {
  const std::vector<bool> read = readers_of(program_).read;
  for (const Node& n : graph().nodes()) plan_node(n, read);
  own_outputs();
  for (std::size_t i = 0; i < planned_.size(); ++i) planned_[i].node = &graph().nodes()[i];
}

// A view has no step that could write the caller's memory: what it shows is copied there.
void Plan::own_outputs() {
  auto& nodes = program_.graph.nodes();
  for (ValueId& v : program_.outputs) {
    const NodeId producer = graph().value(v).producer;
    if (producer == kNoNode || !planned_[at(producer)].view) continue;
    Node copy = conversion(program_, v, Layout::kPlain, nodes[at(producer)], true);
    v = copy.out[0];
    program_.graph.value(v).producer = static_cast<NodeId>(nodes.size());
    nodes.push_back(std::move(copy));
    plan_node(nodes.back(), std::vector<bool>(at(graph().value_count()), true));
  }
}

void Plan::find_sections() {
  section_.assign(at(graph().value_count()), 0);
  const std::set<const Storage*> written = graph().written();
  for (ValueId v = 0; v < graph().value_count(); ++v) {
    const Value& value = graph().value(v);
    if (value.source == Source::kInput) {
      section_[at(v)] = value.section;
      inputs_.push_back(v);
    }
    if (value.source == Source::kTensor)
      section_[at(v)] = written.count(value.tensor.storage().get()) ? 0 : kPrologue;
  }
  for (PlannedNode& p : planned_) {
    const Node& n = *p.node;
    int latest = n.in.empty() || !n.writes.empty() ? 0 : kPrologue;
    for (const ValueId v : n.in)
      if (v != kNoValue) latest = std::max(latest, section_[at(v)]);
    for (const ValueId v : n.out)
      if (program_.is_output(v)) latest = std::max(latest, 0);
    p.section = latest == kPrologue ? kPrologue : std::max(latest, n.section);
    for (const ValueId v : n.out) section_[at(v)] = p.section;
  }
  for (const ValueId v : program_.outputs) output_section_.push_back(std::max(0, section_[at(v)]));
}

void Plan::find_roots() {
  const auto count = at(graph().value_count());
  root_.resize(count), offset_.assign(count, 0);
  std::vector<ValueId> parent(count, kNoValue);
  for (ValueId v = 0; v < graph().value_count(); ++v) {
    const Value& value = graph().value(v);
    if (value.slice_of == kNoValue) continue;
    parent[at(v)] = value.slice_of;
    offset_[at(v)] = ops::channel_offset(value.desc, value.first_channel) * size_of(value.desc.dtype);
  }
  for (const PlannedNode& p : planned_)
    if (p.prepared && p.view) parent[at(p.node->out[0])] = p.node->in[0];
  const std::vector<std::int64_t> own = offset_;  // each to its parent
  for (ValueId v = 0; v < graph().value_count(); ++v) {
    ValueId& root = root_[at(v)] = v;
    for (offset_[at(v)] = 0; parent[at(root)] != kNoValue; root = parent[at(root)])
      offset_[at(v)] += own[at(root)];
  }
}

Operand Plan::operand(ValueId v) const {
  if (v == kNoValue) return {};
  Operand o = where_[at(root_[at(v)])];
  o.offset += offset_[at(v)];
  return o;
}

void Plan::add_step(Launch& launch, const PlannedNode& p, std::int64_t& packed_bytes) {
  for (const ValueId v : p.node->in) {
    launch.in.push_back(operand(v));
    if (v != kNoValue && launch.in.back().kind == Operand::kNull && graph().desc(v).shape.numel() > 0)
      throw std::logic_error(
          str("plan: ", p.node->op->name(), " '", p.node->name, "' reads what nobody wrote"));
  }
  for (const ValueId v : p.node->out) launch.out.push_back(operand(v));
  order_.push_back(static_cast<int>(&p - planned_.data()));
  const auto bytes = static_cast<std::int64_t>(ops::align64(p.prepared->packed_bytes()));
  if (bytes == 0) return;
  bool unchanging = true;
  Watch watch;
  for (std::size_t i = 0; i < p.node->in.size(); ++i) {
    const ValueId v = p.node->in[i];
    if (v == kNoValue || !p.prepared->packs_from(static_cast<int>(i))) continue;
    const ValueId root = root_[at(v)];
    unchanging = unchanging && section_[at(root)] == kPrologue;
    if (graph().value(root).source == Source::kTensor)
      watch.add(graph().value(root).tensor.storage().get());
    else  // folded: made anew whenever anything the prologue reads has changed
      for (const Storage* s : prologue_.storages()) watch.add(s);
  }
  if (unchanging) {
    launch.packed = {Operand::kKept, 0, kept_bytes_};
    kept_bytes_ += bytes;
    packs_.push_back({nullptr, std::move(watch)});
  } else {
    launch.packed = {Operand::kArena, 0, arena_bytes_ + packed_bytes};
    packed_bytes += bytes;
  }
}

void Plan::build(const std::vector<LaunchOrder>& order, const std::vector<std::int64_t>& local_bytes) {
  kept_bytes_ = static_cast<std::int64_t>(ops::align64(at(kept_bytes_)));
  launches_.reserve(order.size());
  for (std::size_t l = 0; l < order.size(); ++l) {
    Launch launch;
    launch.section = order[l].section;
    launch.first_step = order_.size();
    launch.steps = order[l].nodes.size();
    std::int64_t packed = 0;  // weights packed on every run lie before the scratch
    std::vector<Segment::Step> parts;
    const std::size_t kept = packs_.size();
    for (const int i : order[l].nodes) {
      const PlannedNode& p = planned_[at(i)];
      const std::size_t first_in = launch.in.size(), first_out = launch.out.size();
      add_step(launch, p, packed);
      launch.op = p.prepared.get();
      if (!order[l].segment) continue;
      Segment::Step part;
      part.op = p.prepared->as_sliced();
      const auto places = [](const std::vector<Operand>& from, std::size_t first) {
        std::vector<std::int64_t> to;
        for (std::size_t k = first; k < from.size(); ++k)
          to.push_back(from[k].kind == Operand::kLocal ? from[k].offset : Segment::kElsewhere);
        return to;
      };
      part.in = places(launch.in, first_in), part.out = places(launch.out, first_out);
      parts.push_back(std::move(part));
    }
    if (order[l].segment) {
      launch.segment = std::make_unique<Segment>(std::move(parts), at(local_bytes[l]));
      launch.op = launch.segment.get();
    }
    launch.scratch = arena_bytes_ + packed;
    const auto scratch = static_cast<std::int64_t>(ops::scratch_bytes(*launch.op, context().threads));
    scratch_bytes_ = std::max(scratch_bytes_, packed + scratch);
    launches_.push_back(std::move(launch));
    for (std::size_t k = kept; k < packs_.size(); ++k) packs_[k].launch = &launches_.back();
  }
}

void Plan::watch_prologue() {
  for (const PlannedNode& p : planned_)
    if (p.section == kPrologue)
      for (const ValueId v : p.node->in)
        if (v != kNoValue && graph().value(root_[at(v)]).source == Source::kTensor)
          prologue_.add(graph().value(root_[at(v)]).tensor.storage().get());
}

bool Plan::stale(int section) const {
  if (!prologue_.storages().empty() && prologue_.stale()) return true;
  for (const Kept& k : packs_)
    if (k.launch->section == section && k.watch.stale()) return true;
  return false;
}

void Plan::find_needs() {
  const auto storage_of = [&](ValueId v) { return graph().value(v).tensor.storage().get(); };
  for (int section = 0; section < sections(); ++section) {
    Section needs;
    std::set<Lockable*> read, write;
    for (const Launch& l : launches_) {
      if (l.section != section && l.section != kPrologue) continue;
      for (const Operand& o : l.in) {
        if (o.kind == Operand::kInput) needs.inputs.insert(o.index);
        if (o.kind == Operand::kTensor) read.insert(storage_of(static_cast<ValueId>(o.index)));
      }
      for (const Operand& o : l.out)
        if (o.kind == Operand::kOutput) needs.outputs.insert(o.index);
      for (std::size_t s = l.first_step; s < l.first_step + l.steps; ++s)
        for (const ValueId v : planned_[at(order_[s])].node->writes) write.insert(storage_of(v));
    }
    for (Lockable* s : write) read.erase(s);
    needs.as_it_is = needs.renewing = {{read.begin(), read.end()}, {write.begin(), write.end()}};
    needs.as_it_is.read.push_back(&kept_lock_);
    needs.renewing.write.push_back(&kept_lock_);
    sections_.push_back(std::move(needs));
  }
}

}  // namespace fastcnn::graph

#include "graph/plan.h"

#include <algorithm>
#include <chrono>
#include <map>

#include "core/parallel.h"
#include "graph/passes.h"

namespace fastcnn::graph {
namespace {

std::vector<ValueId> float_inputs(const Graph& g) {
  std::vector<ValueId> out;
  for (ValueId v = 0; v < g.value_count(); ++v)
    if (g.value(v).source == Source::kInput && g.desc(v).dtype == DType::kFloat32) out.push_back(v);
  return out;
}

}  // namespace

Plan::Plan(const Graph& graph, const std::vector<ValueId>& outputs, const std::vector<ValueId>& late,
           const std::string& layout)
    : graph_(graph), outputs_(outputs), two_sections_(!late.empty()), threads_(num_threads()) {
  const ThreadScope scope(threads_);
  for (const ValueId v : outputs_) {
    graph_.check_id(v);
    if (v == kNoValue) throw ValueError("a plan's output must be a value");
  }
  prune(graph_, outputs_);
  fold_affine(graph_, outputs_);
  prune(graph_, outputs_);
  // Between two sections the caller may change its input array: what section 1 reads is copied first.
  place(graph_, outputs_, layout, two_sections_ ? float_inputs(graph_) : std::vector<ValueId>());
  fuse(graph_, outputs_);
  find_sections(late);
  plan_nodes();
  find_roots();
  const std::vector<Launch> launches = schedule(graph_, nodes_, root_);
  plan_memory(launches);
  build(launches);
  input_.resize(static_cast<std::size_t>(graph_.input_count()));
  output_.resize(outputs_.size());
}

void Plan::find_sections(const std::vector<ValueId>& late) {
  // -1: from parameters that this plan leaves alone; 1: from a late input; 0: the rest.
  written_.assign(static_cast<std::size_t>(graph_.value_count()), false);
  section_.assign(static_cast<std::size_t>(graph_.value_count()), 0);
  for (const Node& n : graph_.nodes())
    for (const ValueId v : n.writes) written_[static_cast<std::size_t>(v)] = true;
  for (ValueId v = 0; v < graph_.value_count(); ++v)
    if (graph_.value(v).source == Source::kTensor && !written_[static_cast<std::size_t>(v)])
      section_[static_cast<std::size_t>(v)] = -1;
  for (const ValueId v : late) section_[static_cast<std::size_t>(v)] = 1;
  for (const Node& n : graph_.nodes()) {
    int s = n.in.empty() || !n.writes.empty() ? 0 : -1;
    for (const ValueId v : n.in)
      if (v != kNoValue) s = std::max(s, section_[static_cast<std::size_t>(v)]);
    for (const ValueId v : n.out) section_[static_cast<std::size_t>(v)] = s;
    PlannedNode p;
    p.node = &n;
    p.section = s;
    nodes_.push_back(std::move(p));
  }
  for (ValueId& v : outputs_) output_section_.push_back(std::max(0, section_[static_cast<std::size_t>(v)]));
}

void Plan::plan_nodes() {
  const Readers readers = readers_of(graph_, outputs_);
  for (PlannedNode& p : nodes_) {
    p.problem = problem_of(graph_, *p.node, readers.read);
    try {
      p.choice = ops::choose(*p.node->op, p.problem);
    } catch (const ValueError& e) {
      throw ValueError(str(p.node->op->name(), " '", p.node->name, "': ", e.what()));
    }
    p.view = p.choice.prepared->is_view();
  }
}

void Plan::find_roots() {
  for (ValueId v = 0; v < graph_.value_count(); ++v) root_.push_back(v);
  for (PlannedNode& p : nodes_) {
    if (!p.view) continue;
    const ValueId from = root_[static_cast<std::size_t>(p.node->in[0])], to = p.node->out[0];
    root_[static_cast<std::size_t>(to)] = from;
  }
}

void Plan::plan_memory(const std::vector<Launch>& launches) {
  const auto count = static_cast<std::size_t>(graph_.value_count());
  where_.assign(count, {});
  std::vector<int> first(count, -1), last(count, -1);
  for (std::size_t l = 0; l < launches.size(); ++l)
    for (const int i : launches[l].nodes) {
      const Node& n = *nodes_[static_cast<std::size_t>(i)].node;
      for (const ValueId v : n.out)
        first[static_cast<std::size_t>(v)] = last[static_cast<std::size_t>(v)] = static_cast<int>(l);
      for (const ValueId v : n.in)
        if (v != kNoValue)
          last[static_cast<std::size_t>(root_[static_cast<std::size_t>(v)])] = static_cast<int>(l);
    }
  for (ValueId v = 0; v < graph_.value_count(); ++v) {
    const Value& value = graph_.value(v);
    if (value.source == Source::kInput) where_[static_cast<std::size_t>(v)] = {Operand::kInput, value.input};
    if (value.source == Source::kTensor) where_[static_cast<std::size_t>(v)] = {Operand::kTensor, v};
  }
  for (std::size_t k = 0; k < outputs_.size(); ++k)
    where_[static_cast<std::size_t>(outputs_[k])] = {Operand::kOutput, static_cast<std::int64_t>(k)};
  for (const Launch& l : launches) {
    local_values_.push_back(0);
    if (l.segment) plan_locals(l, &local_values_.back());
  }

  std::vector<Buffer> arena, persistent;
  std::vector<ValueId> arena_value, persistent_value;
  std::vector<int> shares(count, -1);  // index in `arena` of the buffer that a value lies in
  for (std::size_t l = 0; l < launches.size(); ++l)
    for (const int i : launches[l].nodes) {
      const PlannedNode& p = nodes_[static_cast<std::size_t>(i)];
      for (std::size_t k = 0; k < p.node->out.size(); ++k) {
        const ValueId v = p.node->out[k];
        const auto at = static_cast<std::size_t>(v);
        if (where_[at].kind != Operand::kNull || !p.problem.wanted[k]) continue;
        const std::int64_t bytes = ops::storage_bytes(p.problem.outputs[k]);
        if (p.section < 0) {
          persistent.push_back({bytes, 0, static_cast<int>(launches.size()), -1});
          persistent_value.push_back(v);
          continue;
        }
        const int reuse = k == 0 && !launches[l].segment ? p.node->op->in_place(p.problem) : -1;
        if (reuse >= 0) {
          const ValueId from = root_[static_cast<std::size_t>(p.node->in[static_cast<std::size_t>(reuse)])];
          const int b = shares[static_cast<std::size_t>(from)];
          if (b >= 0 && last[static_cast<std::size_t>(from)] == static_cast<int>(l) &&
              arena[static_cast<std::size_t>(b)].last == static_cast<int>(l) &&
              arena[static_cast<std::size_t>(b)].bytes == bytes) {
            arena[static_cast<std::size_t>(b)].last = last[at];
            shares[at] = b;
            continue;
          }
        }
        shares[at] = static_cast<int>(arena.size());
        arena.push_back({bytes, first[at], last[at], -1});
        arena_value.push_back(v);
      }
    }
  arena_bytes_ = assign_offsets(arena);
  persistent_bytes_ = assign_offsets(persistent);
  const auto note = [&](ValueId v, const Buffer& b, const char* place) {
    const NodeId producer = graph_.value(v).producer;
    buffers_.push_back({producer == kNoNode ? "" : graph_.nodes()[static_cast<std::size_t>(producer)].name,
                        graph_.desc(v).shape.text(), ops::name_of(graph_.desc(v).layout), place, b.bytes,
                        b.offset, b.first, b.last});
  };
  for (std::size_t at = 0; at < count; ++at)
    if (shares[at] >= 0) where_[at] = {Operand::kArena, arena[static_cast<std::size_t>(shares[at])].offset};
  for (std::size_t i = 0; i < arena.size(); ++i) note(arena_value[i], arena[i], "arena");
  for (std::size_t i = 0; i < persistent.size(); ++i) {
    where_[static_cast<std::size_t>(persistent_value[i])] = {Operand::kPersistent, persistent[i].offset};
    note(persistent_value[i], persistent[i], "persistent");
  }
}

void Plan::plan_locals(const Launch& launch, std::int64_t* local_bytes) {
  // A value lives in the thread's area when it is born in the segment, cut by blocks, and read only in it.
  std::vector<Buffer> local;
  std::vector<ValueId> value;             // that each buffer was made for
  std::map<ValueId, std::size_t> shares;  // the buffer each value lies in
  for (std::size_t s = 0; s < launch.nodes.size(); ++s) {
    const PlannedNode& p = nodes_[static_cast<std::size_t>(launch.nodes[s])];
    const ops::BlockOp* op = p.choice.prepared->as_block_op();
    for (std::size_t k = 0; k < p.node->out.size(); ++k) {
      const ValueId v = p.node->out[k];
      if (where_[static_cast<std::size_t>(v)].kind != Operand::kNull || !p.problem.wanted[k] ||
          op->out_access(static_cast<int>(k)) != ops::Access::kPerBlock)
        continue;
      Buffer b{op->out_block_bytes(static_cast<int>(k)), static_cast<int>(s), static_cast<int>(s), -1};
      bool inside = true;
      for (std::size_t i = 0; i < nodes_.size(); ++i) {
        const auto& in = nodes_[i].node->in;
        const bool reads = !nodes_[i].view && std::any_of(in.begin(), in.end(), [&](ValueId u) {
          return u != kNoValue && root_[static_cast<std::size_t>(u)] == v;
        });
        if (!reads) continue;
        const auto at = std::find(launch.nodes.begin(), launch.nodes.end(), static_cast<int>(i));
        inside = inside && at != launch.nodes.end();
        b.last = std::max(b.last, static_cast<int>(at - launch.nodes.begin()));
      }
      if (!inside) continue;
      const int reuse = k == 0 ? p.node->op->in_place(p.problem) : -1;
      const ValueId from =
          reuse < 0 ? kNoValue : root_[static_cast<std::size_t>(p.node->in[static_cast<std::size_t>(reuse)])];
      const auto old = shares.find(from);
      if (old != shares.end() && local[old->second].last == static_cast<int>(s) &&
          local[old->second].bytes == b.bytes) {
        local[old->second].last = b.last;
        shares[v] = old->second;
        continue;
      }
      shares[v] = local.size();
      local.push_back(b);
      value.push_back(v);
    }
  }
  *local_bytes = assign_offsets(local);
  for (const auto& [v, buffer] : shares)
    where_[static_cast<std::size_t>(v)] = {Operand::kThread, local[buffer].offset};
  for (std::size_t i = 0; i < local.size(); ++i) {
    const NodeId producer = graph_.value(value[i]).producer;
    buffers_.push_back({graph_.nodes()[static_cast<std::size_t>(producer)].name,
                        graph_.desc(value[i]).shape.text(), ops::name_of(graph_.desc(value[i]).layout),
                        "thread", local[i].bytes, local[i].offset, local[i].first, local[i].last});
  }
}

Plan::Operand Plan::operand(ValueId v) const {
  return v == kNoValue ? Operand{} : where_[static_cast<std::size_t>(root_[static_cast<std::size_t>(v)])];
}

// Packed weights are kept while what they were made from stays as it is.
bool Plan::packs_every_run(const PlannedNode& p) const {
  for (const ValueId v : p.node->in)
    if (v != kNoValue && !graph_.desc(v).batched && section_[static_cast<std::size_t>(v)] >= 0) return true;
  return false;
}

void Plan::build(const std::vector<Launch>& launches) {
  for (std::size_t l = 0; l < launches.size(); ++l) {
    RunLaunch launch;
    launch.section = launches[l].section;
    std::size_t packed = 0;  // weights packed on every run lie before the scratch
    std::vector<ops::SegmentStep> parts;
    for (const int i : launches[l].nodes) {
      const PlannedNode& p = nodes_[static_cast<std::size_t>(i)];
      const ops::Prepared& prepared = *p.choice.prepared;
      Step s;
      s.node = i;
      for (const ValueId v : p.node->in) s.in.push_back(operand(v));
      for (std::size_t k = 0; k < p.node->out.size(); ++k)
        s.out.push_back(p.problem.wanted[k] ? operand(p.node->out[k]) : Operand{});
      s.in_ptr.resize(s.in.size());
      s.out_ptr.resize(s.out.size());
      if (const std::size_t bytes = ops::align64(prepared.packed_bytes())) {
        // Others are packed once, and again when somebody changed them.
        if (packs_every_run(p)) {
          s.packed = {Operand::kArena, arena_bytes_ + static_cast<std::int64_t>(packed)};
          packed += bytes;
        } else {
          s.packed = {Operand::kPersistent, persistent_bytes_};
          persistent_bytes_ += static_cast<std::int64_t>(bytes);
        }
      }
      if (launches[l].segment) {
        ops::SegmentStep part;
        part.op = prepared.as_block_op();
        for (const Operand& o : s.in) part.in_local.push_back(o.kind == Operand::kThread);
        for (const Operand& o : s.out) part.out_local.push_back(o.kind == Operand::kThread);
        parts.push_back(std::move(part));
      } else {
        launch.scratch = std::max(launch.scratch, prepared.scratch_bytes());
      }
      launch.steps.push_back(std::move(s));
    }
    if (launches[l].segment) {
      launch.segment =
          std::make_unique<ops::SegmentRunner>(std::move(parts), static_cast<std::size_t>(local_values_[l]));
      launch.scratch = launch.segment->scratch_bytes();
    }
    scratch_bytes_ = std::max(scratch_bytes_, packed + launch.scratch);
    launch.scratch = packed;  // from here on: where the scratch begins
    launches_.push_back(std::move(launch));
  }
}

void Plan::bind_input(int i, const Tensor& t) {
  if (i < 0 || i >= static_cast<int>(input_.size())) throw ValueError(str("no input ", i));
  for (ValueId v = 0; v < graph_.value_count(); ++v) {
    const Value& value = graph_.value(v);
    if (value.source != Source::kInput || value.input != i) continue;
    if (t.shape() != value.desc.shape || t.dtype() != value.desc.dtype)
      throw ValueError(str("input '", value.name, "': expected ", value.desc.shape, " ",
                           name_of(value.desc.dtype), ", got ", t.shape(), " ", name_of(t.dtype())));
  }
  input_[static_cast<std::size_t>(i)] = t;
}

void Plan::unbind() {
  for (Tensor& t : input_) t = Tensor();
  for (Tensor& t : output_) t = Tensor();
}

void Plan::bind_output(int i, const Tensor& t) {
  if (i < 0 || i >= static_cast<int>(output_.size())) throw ValueError(str("no output ", i));
  const TensorDesc& d = output_desc(i);
  if (t.shape() != d.shape || t.dtype() != d.dtype)
    throw ValueError(str("output ", i, ": expected ", d.shape, " ", name_of(d.dtype), ", got ", t.shape(),
                         " ", name_of(t.dtype())));
  output_[static_cast<std::size_t>(i)] = t;
}

void* Plan::address(const Operand& o) const {
  switch (o.kind) {
    case Operand::kNull:
      return nullptr;
    case Operand::kArena:
      return loan_.data() + o.at;
    case Operand::kThread:
      return reinterpret_cast<void*>(o.at);
    case Operand::kInput:
      return input_[static_cast<std::size_t>(o.at)].data();
    case Operand::kOutput:
      return output_[static_cast<std::size_t>(o.at)].data();
    case Operand::kTensor:
      return graph_.value(static_cast<ValueId>(o.at)).tensor.data();
    case Operand::kPersistent:
      return persistent_->data() + o.at;
  }
  return nullptr;
}

void Plan::resolve(Step& s) {
  for (std::size_t k = 0; k < s.in.size(); ++k) s.in_ptr[k] = address(s.in[k]);
  for (std::size_t k = 0; k < s.out.size(); ++k) s.out_ptr[k] = address(s.out[k]);
}

void Plan::run_launch(RunLaunch& l, double* seconds) {
  std::byte* const scratch = loan_.data() + arena_bytes_ + l.scratch;
  const auto start = std::chrono::steady_clock::now();
  for (std::size_t k = 0; k < l.steps.size(); ++k) {
    Step& s = l.steps[k];
    resolve(s);
    const ops::Prepared& prepared = *nodes_[static_cast<std::size_t>(s.node)].choice.prepared;
    auto* packed = static_cast<std::byte*>(address(s.packed));
    if (s.packed.kind == Operand::kArena) prepared.pack(s.in_ptr.data(), packed);
    const ops::RunArgs args{s.in_ptr.data(), s.out_ptr.data(), packed, scratch};
    if (l.segment)
      l.segment->steps()[k].args = args;
    else
      prepared.run(args);
  }
  if (l.segment)
    l.segment->run(scratch, seconds);
  else if (seconds)
    *seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

std::uint64_t Plan::stamp(bool* exported) const {
  std::uint64_t sum = 0;
  for (ValueId v = 0; v < graph_.value_count(); ++v)
    if (graph_.value(v).source == Source::kTensor && !written_[static_cast<std::size_t>(v)]) {
      const Storage& s = *graph_.value(v).tensor.storage();
      sum += s.version();
      *exported = *exported || s.exported();
    }
  return sum;
}

void Plan::check_bound(int section) const {
  for (const RunLaunch& l : launches_)
    if (l.section == section)
      for (const Step& s : l.steps) {
        for (const Operand& o : s.in)
          if (o.kind == Operand::kInput && !input_[static_cast<std::size_t>(o.at)].defined())
            throw ValueError(str("plan: input ", o.at, " is not bound"));
        for (const Operand& o : s.out)
          if (o.kind == Operand::kOutput && !output_[static_cast<std::size_t>(o.at)].defined())
            throw ValueError(str("plan: output ", o.at, " is not bound"));
      }
}

void Plan::run(int section, const Bindings& inputs, const Bindings& outputs, std::vector<double>* seconds) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const ThreadScope scope(threads_);
  if (section == 1 && !forward_done_) throw ValueError("backward: call the model first");
  const struct Unbind {  // whatever happens, no caller's memory is kept
    Plan* plan;
    ~Unbind() { plan->unbind(); }
  } unbind_at_end{this};
  for (const auto& [i, t] : inputs) bind_input(i, t);
  for (const auto& [i, t] : outputs) bind_output(i, t);
  check_bound(section);
  if (section == 0 || !loan_.data()) loan_ = ArenaLoan(static_cast<std::size_t>(arena_bytes()) + kAlignment);
  if (persistent_bytes_ > 0 && !persistent_)
    persistent_ = std::make_unique<Arena>(static_cast<std::size_t>(persistent_bytes_));
  if (seconds) seconds->assign(steps().size(), 0.0);

  bool exported = false;
  const std::uint64_t now = stamp(&exported);
  const bool renew = exported || !prologue_done_ || now != last_stamp_;
  parallel_session([&] { run_launches(section, renew, seconds ? seconds->data() : nullptr); });
  prologue_done_ = true;
  last_stamp_ = now;
  for (ValueId v = 0; v < graph_.value_count(); ++v)
    if (written_[static_cast<std::size_t>(v)]) graph_.value(v).tensor.storage()->touch();
  forward_done_ = two_sections_ && section == 0;
  if (!forward_done_) loan_ = ArenaLoan();
}

void Plan::run_launches(int section, bool renew, double* seconds) {
  std::size_t step = 0;
  for (RunLaunch& l : launches_) {
    const bool mine = l.section == section || (l.section < 0 && section == 0 && renew);
    if (section == 0 && renew)
      for (Step& s : l.steps)
        if (s.packed.kind == Operand::kPersistent && l.section >= 0) {
          // Packing reads parameters and folded weights only; those are there already.
          resolve(s);
          nodes_[static_cast<std::size_t>(s.node)].choice.prepared->pack(
              s.in_ptr.data(), static_cast<std::byte*>(address(s.packed)));
        }
    if (mine) run_launch(l, seconds ? seconds + step : nullptr);
    step += l.steps.size();
  }
}

void Plan::drop_forward() {
  const std::lock_guard<std::mutex> lock(mutex_);
  forward_done_ = false;
  loan_ = ArenaLoan();
}

namespace {

std::string fused_text(const ops::Fusion& f) {
  static const char* const kNames[] = {"", "relu", "tanh", "sigmoid"};
  std::string s;
  const auto add = [&](const std::string& what) { s += (s.empty() ? "" : "+") + what; };
  if (f.act_grad != ops::Activation::kNone) add(str(kNames[static_cast<int>(f.act_grad)], "_grad"));
  if (f.statistics) add("statistics");
  if (f.add) add("add");
  if (f.activation != ops::Activation::kNone) add(kNames[static_cast<int>(f.activation)]);
  if (f.act_grad_after != ops::Activation::kNone)
    add(str(kNames[static_cast<int>(f.act_grad_after)], "_grad"));
  if (f.pool.kind != ops::PoolSpec::kNone) add(f.pool.kind == ops::PoolSpec::kMax ? "max_pool" : "avg_pool");
  return s;
}

}  // namespace

std::vector<StepInfo> Plan::steps() const {
  std::vector<StepInfo> out;
  for (std::size_t l = 0; l < launches_.size(); ++l)
    for (const Step& s : launches_[l].steps) {
      const PlannedNode& p = nodes_[static_cast<std::size_t>(s.node)];
      StepInfo info;
      info.layer = p.node->name;
      info.op = p.node->op->name();
      info.implementation = p.choice.name;
      info.detail = p.choice.prepared->detail();
      info.fused = fused_text(p.node->fusion);
      if (!p.problem.outputs.empty()) {
        info.layout = ops::name_of(p.problem.outputs[0].layout);
        info.output = p.problem.outputs[0].shape.text();
      }
      info.launch = static_cast<int>(l);
      info.section = launches_[l].section;
      info.segment = launches_[l].segment != nullptr;
      info.flops = p.node->op->cost(p.problem).flops;
      for (const TensorDesc& d : p.problem.inputs)
        if (!d.absent) info.bytes += static_cast<double>(ops::storage_bytes(d));
      for (std::size_t k = 0; k < p.problem.outputs.size(); ++k)
        if (p.problem.wanted[k]) info.bytes += static_cast<double>(ops::storage_bytes(p.problem.outputs[k]));
      out.push_back(info);
    }
  return out;
}

std::vector<BufferInfo> Plan::buffers() const { return buffers_; }

}  // namespace fastcnn::graph

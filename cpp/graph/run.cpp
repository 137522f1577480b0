#include "graph/run.h"

#include <algorithm>
#include <chrono>

#include "core/parallel.h"
#include "core/poison.h"
#include "ops/execute.h"

namespace fastcnn::graph {

Run::Run(std::shared_ptr<Plan> plan)
    : plan_(std::move(plan)), input_(at(plan_->graph().input_count())), output_(at(plan_->output_count())) {}

namespace {

template <class... Who>
void expect_like(const TensorDesc& d, const Tensor& t, const Who&... who) {
  if (t.shape() != d.shape || t.dtype() != d.dtype)
    throw ValueError(str(who..., ": expected ", d.shape, " ", name_of(d.dtype), ", got ", t.shape(), " ",
                         name_of(t.dtype())));
}

}  // namespace

void Run::bind(int section, const Bindings& inputs, const Bindings& outputs) {
  for (const auto& [i, t] : inputs) {
    if (i < 0 || i >= static_cast<int>(input_.size())) throw ValueError(str("no input ", i));
    const Value& value = plan_->graph().value(plan_->inputs_[at(i)]);
    expect_like(value.desc, t, "input '", value.name, "'");
    input_[at(i)] = t;
  }
  for (const auto& [i, t] : outputs) {
    if (i < 0 || i >= static_cast<int>(output_.size())) throw ValueError(str("no output ", i));
    expect_like(plan_->output_desc(i), t, "output ", i);
    output_[at(i)] = t;
    poison(t.data(), t.bytes());
  }
  for (const std::int64_t i : plan_->sections_[at(section)].inputs)
    if (!input_[at(i)].defined()) throw ValueError(str("plan: input ", i, " is not bound"));
  for (const std::int64_t i : plan_->sections_[at(section)].outputs)
    if (!output_[at(i)].defined()) throw ValueError(str("plan: output ", i, " is not bound"));
}

std::byte* Run::address(const Operand& o) const {
  const auto from = [&](void* p) { return static_cast<std::byte*>(p) + o.offset; };
  switch (o.kind) {
    case Operand::kNull:
    case Operand::kLocal:  // the segment knows
      return nullptr;
    case Operand::kArena:
      return arena_->data() + o.offset;
    case Operand::kInput:
      return from(input_[at(o.index)].data());
    case Operand::kOutput:
      return from(output_[at(o.index)].data());
    case Operand::kTensor:
      return from(plan_->graph().value(static_cast<ValueId>(o.index)).tensor.data());
    case Operand::kKept:
      return plan_->kept_->data() + o.offset;
  }
  return nullptr;
}

void Run::resolve(const Launch& l) {
  in_.resize(l.in.size()), out_.resize(l.out.size());
  for (std::size_t k = 0; k < l.in.size(); ++k) in_[k] = address(l.in[k]);
  for (std::size_t k = 0; k < l.out.size(); ++k) out_[k] = address(l.out[k]);
}

void Run::pack(const Launch& l) {
  resolve(l);
  ops::pack(*l.op, in_.data(), address(l.packed));
}

void Run::launch(const Launch& l, std::vector<double>* seconds) {
  if (l.packed.kind == Operand::kArena)
    pack(l);
  else
    resolve(l);
  const int threads = plan_->context().threads;
  ops::RunArgs args{in_.data(), out_.data(), address(l.packed), nullptr};
  std::vector<double> parts(seconds && l.segment ? l.steps * at(threads) : 0, 0.0);
  if (!parts.empty()) args.seconds = parts.data();
  const auto start = std::chrono::steady_clock::now();
  ops::execute(*l.op, args, arena_->data() + l.scratch, threads);
  if (!seconds) return;
  const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - start;
  if (parts.empty()) {
    (*seconds)[l.first_step] += spent.count();
    return;
  }
  // The launch's time, shared out as the threads' was.
  double all = 0;
  for (const double t : parts) all += t;
  for (std::size_t i = 0; i < parts.size(); ++i)
    (*seconds)[l.first_step + i % l.steps] += all > 0 ? parts[i] / all * spent.count() : 0;
}

// Makes anew what is kept and was made from something that has changed.
void Run::renew(int section) {
  Plan& p = *plan_;
  if (!p.kept_) p.kept_ = std::make_unique<Arena>(at(p.kept_bytes_));
  if (!p.prologue_.storages().empty() && p.prologue_.stale()) {
    for (const Launch& l : p.launches_) {
      if (l.section != kPrologue) continue;
      if (l.packed.kind == Operand::kKept) pack(l);
      launch(l, nullptr);
    }
    p.prologue_.note();
  }
  for (Plan::Kept& k : p.packs_) {
    if (k.launch->section != section || !k.watch.stale()) continue;
    pack(*k.launch);
    k.watch.note();
  }
}

void Run::section(int section, const Bindings& inputs, const Bindings& outputs,
                  std::vector<double>* seconds) {
  Plan& p = *plan_;
  if (section != next_)
    throw ValueError(done() ? str("plan: this run has ended; start another")
                            : str("plan: expected section ", next_, " of ", p.sections(), ", got ", section));
  const struct Unbind {  // whatever happens, no caller's memory is kept
    Run* run;
    ~Unbind() {
      for (auto* list : {&run->input_, &run->output_})
        for (Tensor& t : *list) t = Tensor();
    }
  } unbind_at_end{this};
  bind(section, inputs, outputs);
  const ThreadScope scope(p.context().threads);
  if (!arena_) arena_ = borrow_arena(at(p.arena_bytes()) + kAlignment);
  if (seconds) seconds->assign(p.step_count(), 0.0);
  for (bool renews = false;; renews = true) {
    const Plan::Section& needs = p.sections_[at(section)];
    const Plan::Locks& locks = renews ? needs.renewing : needs.as_it_is;
    const Access access(locks.read, locks.write);
    if (!renews && p.stale(section)) continue;
    parallel_session([&] {
      if (renews) renew(section);
      for (const Launch& l : p.launches_)
        if (l.section == section) launch(l, seconds);
    });
    for (Lockable* l : needs.as_it_is.write) static_cast<Storage*>(l)->touch();
    break;
  }
  if (++next_ == p.sections()) arena_.reset();
}

}  // namespace fastcnn::graph

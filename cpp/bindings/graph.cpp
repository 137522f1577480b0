// Graph and Plan for Python: the tracer records into a Graph, a Plan runs it.
#include <pybind11/stl.h>

#include "bindings/convert.h"
#include "core/error.h"
#include "graph/run.h"

namespace fastcnn::bindings {
namespace {

using graph::Graph;
using graph::Plan;
using graph::Run;
using ops::kNoValue;
using ops::ValueId;

ValueId id_of(const py::handle& h) { return h.is_none() ? kNoValue : h.cast<ValueId>(); }

std::vector<ValueId> ids_of(const py::sequence& s) {
  std::vector<ValueId> out;
  for (const auto& item : s) out.push_back(id_of(item));
  return out;
}

// Ids as Python has them: None where there is no value.
py::list list_of(const std::vector<ValueId>& ids) {
  py::list out;
  for (const ValueId v : ids) out.append(v == kNoValue ? py::object(py::none()) : py::object(py::int_(v)));
  return out;
}

bool overlap(const Tensor& a, const Tensor& b) {
  const auto at = [](const Tensor& t) { return reinterpret_cast<std::uintptr_t>(t.data()); };
  return at(a) < at(b) + b.bytes() && at(b) < at(a) + a.bytes();
}

// Runs one section on NumPy arrays: inputs and preallocated outputs by index. Returns the outputs of the
// section, new arrays where none were given.
py::dict run_section(Run& run, int section, const py::dict& inputs, const py::dict& outputs,
                     std::vector<double>* seconds) {
  const Plan& plan = run.plan();
  const Run::Use alone(run);
  Run::Bindings in, out;
  for (const auto& [i, array] : inputs)
    in.emplace_back(i.cast<int>(), tensor_from(py::reinterpret_borrow<py::object>(array)));
  py::dict result;
  for (int i = 0; i < plan.output_count(); ++i) {
    if (plan.output_section(i) != section) continue;
    const py::int_ key(i);
    if (outputs.contains(key)) {
      const py::object given = outputs[key];
      const Tensor t = tensor_view(given, "output");
      for (const auto* others : {&in, &out})
        for (const auto& [k, other] : *others)
          if (overlap(t, other))
            throw ValueError(
                str("output ", i, " lies in the memory of ", others == &in ? "input " : "output ", k));
      out.emplace_back(i, t);
      result[key] = given;
    } else {
      const ops::TensorDesc& d = plan.output_desc(i);
      const Tensor t(d.shape, d.dtype);
      out.emplace_back(i, t);
      result[key] = array_view(t);
    }
  }
  {
    const py::gil_scoped_release unlocked;
    run.section(section, in, out, seconds);
  }
  return result;
}

Run start(const std::shared_ptr<Plan>& plan) {
  if (plan->sections() != 1)
    throw ValueError(str("this plan has ", plan->sections(), " sections: call start() and run them in turn"));
  return Run(plan);
}

// Named values as a dict.
template <class Items>
py::dict dict_from(const Items& items) {
  py::dict out;
  for (const auto& [name, value] : items) out[py::str(name)] = value;
  return out;
}

py::list dicts_from(const std::vector<graph::Info>& rows) {
  py::list out;
  for (const graph::Info& row : rows) out.append(dict_from(row));
  return out;
}

// As Python has shapes.
py::tuple tuple_of(const Shape& shape) { return py::tuple(py::cast(shape.vec())); }

const ops::TensorDesc& desc_of(const Graph& g, ValueId v) {
  check(v != kNoValue, "expected a value of the graph, got none");
  g.check_id(v);
  return g.desc(v);
}

}  // namespace

void bind_graph(py::module_& m) {
  py::class_<Graph>(m, "Graph", "A recorded network: values (integers) and the ops between them.")
      .def(py::init<>())
      .def(
          "input",
          [](Graph& g, const std::vector<std::int64_t>& shape, const py::object& dtype, bool batched,
             const std::string& name) {
            return g.input(Shape(shape), dtype_from(py::dtype::from_args(dtype)), batched, name);
          },
          py::arg("shape"), py::arg("dtype") = "float32", py::arg("batched") = true, py::arg("name") = "")
      .def("tensor", &Graph::tensor, py::arg("tensor"), py::arg("name") = "")
      .def(
          "record",
          [](Graph& g, const std::string& op, const py::sequence& inputs, const py::dict& attrs,
             const std::string& name, const std::string& label) {
            const CallAttrs call = attrs_from(attrs);
            return g.record(op, ids_of(inputs), call.attrs, name, label, call.implementation);
          },
          py::arg("op"), py::arg("inputs"), py::arg("attrs"), py::arg("name") = "", py::arg("label") = "")
      .def(
          "backward",
          [](Graph& g, ValueId target, const py::object& seed, const py::sequence& wrt) {
            return list_of(g.backward(target, id_of(seed), ids_of(wrt)));
          },
          py::arg("target"), py::arg("seed"), py::arg("wrt"))
      .def("barrier", &Graph::barrier, "What comes after belongs to the next section of a run.")
      .def("shape", [](const Graph& g, ValueId v) { return tuple_of(desc_of(g, v).shape); })
      .def("dtype", [](const Graph& g, ValueId v) { return name_of(desc_of(g, v).dtype); })
      .def("nodes", [](const Graph& g) {
        py::list out;
        for (const graph::Node& n : g.nodes()) {
          py::dict d;
          d["op"] = n.op->name(), d["inputs"] = list_of(n.in), d["outputs"] = list_of(n.out);
          d["attrs"] = dict_from(n.attrs.items()), d["name"] = n.name;
          const ops::Cost cost = n.op->cost(graph::problem_of(g, n, ops::current_context(), nullptr));
          d["macs"] = cost.efficiency > 0 ? cost.flops / 2 : 0.0;  // of ops bound by arithmetic
          out.append(d);
        }
        return out;
      });

  py::class_<Run>(m, "Run", "One run of a plan, section by section; it owns the memory of its values.")
      .def(
          "section",
          [](Run& r, int section, const py::dict& inputs, const py::dict& outputs) {
            return run_section(r, section, inputs, outputs, nullptr);
          },
          py::arg("section"), py::arg("inputs"), py::arg("outputs") = py::dict())
      .def(
          "time",
          [](Run& r, int section, const py::dict& inputs, const py::dict& outputs) {
            std::vector<double> seconds;
            run_section(r, section, inputs, outputs, &seconds);
            return seconds;
          },
          py::arg("section"), py::arg("inputs"), py::arg("outputs") = py::dict(),
          "Runs a section and returns the seconds of each step.")
      .def_property_readonly("done", &Run::done);

  py::class_<Plan, std::shared_ptr<Plan>>(
      m, "Plan", "A graph made runnable: implementations, layouts and addresses decided.")
      .def(py::init([](const Graph& g, const py::sequence& outputs, const std::string& layout) {
             Graph copy = g;
             std::vector<ValueId> ids = ids_of(outputs);
             const py::gil_scoped_release unlocked;
             return std::make_shared<Plan>(std::move(copy), std::move(ids), layout, ops::current_context());
           }),
           py::arg("graph"), py::arg("outputs"), py::arg("layout") = "auto")
      .def("start", [](const std::shared_ptr<Plan>& p) { return Run(p); })
      .def(
          "run",
          [](const std::shared_ptr<Plan>& p, const py::dict& inputs, const py::dict& outputs) {
            Run run = start(p);
            return run_section(run, 0, inputs, outputs, nullptr);
          },
          py::arg("inputs"), py::arg("outputs") = py::dict(), "A plan of one section, from start to end.")
      .def("output_shape", [](const Plan& p, int i) { return tuple_of(p.output_desc(i).shape); })
      .def("output_section", &Plan::output_section)
      .def_property_readonly("output_count", &Plan::output_count)
      .def_property_readonly("sections", &Plan::sections)
      .def_property_readonly("steps", [](const Plan& p) { return dicts_from(p.steps()); })
      .def_property_readonly("buffers", [](const Plan& p) { return dicts_from(p.buffers()); })
      .def_property_readonly("arena_bytes", &Plan::arena_bytes)
      .def_property_readonly("scratch_bytes", &Plan::scratch_bytes)
      .def_property_readonly("persistent_bytes", &Plan::kept_bytes)
      .def_property_readonly("threads", [](const Plan& p) { return p.context().threads; })
      .def_property_readonly("isa", [](const Plan& p) { return p.context().kernels->isa; });
}

}  // namespace fastcnn::bindings

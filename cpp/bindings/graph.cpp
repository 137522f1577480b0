// Graph and Plan for Python: the tracer records into a Graph, a Plan runs it.
#include <pybind11/stl.h>

#include "bindings/convert.h"
#include "core/error.h"
#include "graph/plan.h"

namespace fastcnn::bindings {
namespace {

using graph::Graph;
using graph::Plan;
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

// Runs one section on NumPy arrays: inputs and preallocated outputs by index. Returns the outputs of the
// section, new arrays where none were given.
py::dict run_plan(Plan& plan, int section, const py::dict& inputs, const py::dict& outputs,
                  std::vector<double>* seconds) {
  Plan::Bindings in, out;
  for (const auto& [i, array] : inputs)
    in.emplace_back(i.cast<int>(), tensor_from(py::reinterpret_borrow<py::object>(array)));
  py::dict result;
  for (int i = 0; i < plan.output_count(); ++i) {
    if (plan.output_section(i) != section) continue;
    const py::int_ key(i);
    if (outputs.contains(key)) {
      const py::object given = outputs[key];
      out.emplace_back(i,
                       py::isinstance<Tensor>(given) ? given.cast<Tensor>() : tensor_view(given, "output"));
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
    plan.run(section, in, out, seconds);
  }
  return result;
}

py::list steps_of(const Plan& plan) {
  py::list out;
  for (const graph::StepInfo& s : plan.steps()) {
    py::dict d;
    d["layer"] = s.layer, d["op"] = s.op, d["implementation"] = s.implementation, d["detail"] = s.detail;
    d["layout"] = s.layout, d["fused"] = s.fused, d["output"] = s.output, d["launch"] = s.launch;
    d["section"] = s.section, d["segment"] = s.segment, d["flops"] = s.flops, d["bytes"] = s.bytes;
    out.append(d);
  }
  return out;
}

py::list buffers_of(const Plan& plan) {
  py::list out;
  for (const graph::BufferInfo& b : plan.buffers()) {
    py::dict d;
    d["layer"] = b.value, d["shape"] = b.shape, d["layout"] = b.layout, d["place"] = b.place;
    d["bytes"] = b.bytes, d["offset"] = b.offset, d["first"] = b.first, d["last"] = b.last;
    out.append(d);
  }
  return out;
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
            return g.record(op, ids_of(inputs), attrs_from(attrs), name, label);
          },
          py::arg("op"), py::arg("inputs"), py::arg("attrs"), py::arg("name") = "", py::arg("label") = "")
      .def(
          "backward",
          [](Graph& g, ValueId target, const py::object& seed, const py::sequence& wrt) {
            return list_of(g.backward(target, id_of(seed), ids_of(wrt)));
          },
          py::arg("target"), py::arg("seed"), py::arg("wrt"))
      .def("shape",
           [](const Graph& g, ValueId v) {
             g.check_id(v);
             return py::tuple(py::cast(g.desc(v).shape.vec()));
           })
      .def("dtype",
           [](const Graph& g, ValueId v) {
             g.check_id(v);
             return std::string(name_of(g.desc(v).dtype));
           })
      .def("nodes", [](const Graph& g) {
        py::list out;
        for (const graph::Node& n : g.nodes()) {
          py::dict d;
          d["op"] = n.op->name(), d["inputs"] = list_of(n.in), d["outputs"] = list_of(n.out);
          d["attrs"] = dict_from(n.attrs), d["name"] = n.name;
          const ops::Cost cost = n.op->cost(graph::problem_of(g, n, {}));
          d["macs"] = cost.efficiency > 0 ? cost.flops / 2 : 0.0;  // of ops bound by arithmetic
          out.append(d);
        }
        return out;
      });

  py::class_<Plan>(m, "Plan", "A graph made runnable: implementations, layouts and addresses decided.")
      .def(py::init([](const Graph& g, const py::sequence& outputs, const py::sequence& late,
                       const std::string& layout) {
             return std::make_unique<Plan>(g, ids_of(outputs), ids_of(late), layout);
           }),
           py::arg("graph"), py::arg("outputs"), py::arg("late") = py::list(), py::arg("layout") = "auto")
      .def(
          "run",
          [](Plan& p, int section, const py::dict& inputs, const py::dict& outputs) {
            return run_plan(p, section, inputs, outputs, nullptr);
          },
          py::arg("section"), py::arg("inputs"), py::arg("outputs") = py::dict())
      .def(
          "time",
          [](Plan& p, int section, const py::dict& inputs, const py::dict& outputs) {
            std::vector<double> seconds;
            run_plan(p, section, inputs, outputs, &seconds);
            return seconds;
          },
          py::arg("section"), py::arg("inputs"), py::arg("outputs") = py::dict(),
          "Runs once and returns the seconds of each step.")
      .def("drop_forward", &Plan::drop_forward)
      .def_property_readonly("holds_forward", &Plan::holds_forward)
      .def("output_shape",
           [](const Plan& p, int i) { return py::tuple(py::cast(p.output_desc(i).shape.vec())); })
      .def("output_section", &Plan::output_section)
      .def_property_readonly("output_count", &Plan::output_count)
      .def_property_readonly("sections", &Plan::sections)
      .def_property_readonly("steps", &steps_of)
      .def_property_readonly("buffers", &buffers_of)
      .def_property_readonly("arena_bytes", &Plan::arena_bytes)
      .def_property_readonly("scratch_bytes", &Plan::scratch_bytes)
      .def_property_readonly("persistent_bytes", &Plan::persistent_bytes)
      .def_property_readonly("threads", &Plan::threads);
}

}  // namespace fastcnn::bindings

// The extension module fastcnn._core: one op at once, instruction sets, threads, random numbers.
#include <pybind11/stl.h>

#include <atomic>
#include <chrono>

#include "bindings/convert.h"
#include "core/arena.h"
#include "core/cpu.h"
#include "core/error.h"
#include "core/parallel.h"
#include "core/random.h"
#include "graph/eager.h"
#include "kernels/functions.h"
#include "kernels/probe.h"
#include "kernels/table.h"

namespace fastcnn::bindings {
namespace {

py::tuple run(const std::string& op, const py::sequence& inputs, const py::dict& attrs,
              const std::string& layout) {
  const ops::OpDef& def = ops::find_op(op);
  std::vector<Tensor> in;
  for (const auto& x : inputs) {
    const auto o = py::reinterpret_borrow<py::object>(x);
    const bool updated = def.updates(static_cast<int>(in.size())) && py::isinstance<py::array>(o);
    in.push_back(updated ? tensor_view(o, op.c_str()) : tensor_from(o));
  }
  const CallAttrs call = attrs_from(attrs);
  std::vector<Tensor> out;
  {
    const py::gil_scoped_release unlocked;
    out = graph::run_eager(op, in, call.attrs, layout, call.implementation);
  }
  py::tuple result(out.size());
  for (std::size_t i = 0; i < out.size(); ++i) result[i] = array_view(out[i]);
  return result;
}

// An array of a stream's random numbers; draw: Philox::uniform or ::normal, with its parameters.
using Draw = void (Philox::*)(float*, std::int64_t, float, float) const;
template <Draw draw>
py::array_t<float> random_array(std::uint64_t seed, std::uint64_t stream,
                                const std::vector<py::ssize_t>& shape, float first, float second) {
  py::array_t<float> a(shape);
  (Philox(seed, stream).*draw)(a.mutable_data(), a.size(), first, second);
  return a;
}

// FLOP/s of multiply-adds alone on all threads, measured for about `seconds`.
double fma_peak(double seconds) {
  using Clock = std::chrono::steady_clock;
  const ProbeKernels& probe = *kernels().probe;
  constexpr std::int64_t kRounds = 20000;
  std::atomic<float> sink{0};
  double best = 0, spent = 0;
  while (spent < seconds) {
    const int threads = num_threads();
    const auto start = Clock::now();
    parallel_for(threads, [&](std::int64_t, int) { sink.store(probe.multiply_add(kRounds)); });
    const double t = std::chrono::duration<double>(Clock::now() - start).count();
    best = std::max(best, static_cast<double>(kRounds * probe.flops_per_round * threads) / t);
    spent += t;
  }
  return best;
}

PYBIND11_MODULE(_core, m) {
  py::register_exception_translator([](std::exception_ptr p) {
    try {
      if (p) std::rethrow_exception(p);
    } catch (const ValueError& e) {
      PyErr_SetString(PyExc_ValueError, e.what());
    } catch (const TypeError& e) {
      PyErr_SetString(PyExc_TypeError, e.what());
    } catch (const MemoryError& e) {
      PyErr_SetString(PyExc_MemoryError, e.what());
    }
  });

  m.attr("__version__") = FASTCNN_VERSION;
  m.def("run", &run, py::arg("op"), py::arg("inputs"), py::arg("attrs") = py::dict(),
        py::arg("layout") = "auto");
  m.def("op_names", &ops::op_names);
  m.def(
      "implementations",
      [](const std::string& op) {
        std::vector<std::string> names;
        for (const ops::Impl& impl : ops::find_op(op).implementations(ops::Device::kCpu))
          names.emplace_back(impl.name);
        return names;
      },
      py::arg("op"), "Names in the op's list, in the order of preference.");
  m.def(
      "functions",
      [] {
        py::list rows;
        for (const FunctionRow& row : functions()) {
          py::dict parameters, d;
          for (const auto& p : row.parameters) parameters[p.name] = p.fallback;
          d["name"] = row.name, d["parameters"] = parameters, d["from_input"] = row.from_input;
          rows.append(d);
        }
        return rows;
      },
      "The elementwise functions: name, parameters with defaults, whether the gradient is computed from x.");
  m.def("isa", [] { return std::string(kernels().isa); });
  m.def("vector_width", [] { return kernels().width; });
  m.def("compiled_isas", &compiled_isas);
  m.def("available_isas", &available_isas);
  m.def("select_isa", &select_isa, py::arg("name"));
  m.def("get_num_threads", &num_threads);
  m.def("set_num_threads", &set_num_threads, py::arg("n"));
  m.def("default_threads", [] {
    std::string why;
    const int n = default_threads(&why);
    return py::make_tuple(n, why);
  });
  m.def("compiler", &compiler);
  m.def("openmp_runtime", &openmp_runtime);
  m.def("cpu_name", &cpu_name);
  m.def("random_uniform", &random_array<&Philox::uniform>, py::arg("seed"), py::arg("stream"),
        py::arg("shape"), py::arg("low"), py::arg("high"));
  m.def("random_normal", &random_array<&Philox::normal>, py::arg("seed"), py::arg("stream"), py::arg("shape"),
        py::arg("mean"), py::arg("stddev"));
  m.def("fma_peak", &fma_peak, py::arg("seconds"), py::call_guard<py::gil_scoped_release>());
  m.def("pooled_arena_bytes", &pooled_arena_bytes);
  m.def("release_pooled_arenas", &release_pooled_arenas);
  bind_tensor(m);
  bind_graph(m);
}

}  // namespace
}  // namespace fastcnn::bindings

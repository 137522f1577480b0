#include "bindings/convert.h"

#include <pybind11/stl.h>

#include "core/error.h"

namespace fastcnn::bindings {
namespace {

std::string type_name(const py::handle& h) { return py::str(py::type::handle_of(h).attr("__name__")); }

py::dtype dtype_of(DType t) {
  using Of = py::dtype (*)();
  static constexpr Of kOf[] = {py::dtype::of<float>, py::dtype::of<std::int64_t>, py::dtype::of<std::int32_t>,
                               py::dtype::of<std::uint8_t>, py::dtype::of<double>};  // in DType's order
  return kOf[static_cast<int>(t)]();
}

std::int64_t integer_from(const std::string& name, const py::handle& value) {
  int overflow = 0;
  const py::object index = py::reinterpret_steal<py::object>(PyNumber_Index(value.ptr()));
  if (!index) throw py::error_already_set();
  const std::int64_t i = PyLong_AsLongLongAndOverflow(index.ptr(), &overflow);
  if (overflow)
    throw ValueError(str("attribute '", name, "': expected an integer of at most 64 bits, got ",
                         std::string(py::str(index))));
  return i;
}

Tensor wrap(const py::array& a) {
  const std::vector<std::int64_t> dims(a.shape(), a.shape() + a.ndim());
  const Shape shape(dims);
  const DType dtype = dtype_from(a.dtype());
  auto* keep = new py::array(a);
  const auto release = [keep] {
    const py::gil_scoped_acquire gil;
    delete keep;
  };
  auto storage =
      std::make_shared<Storage>(const_cast<void*>(a.data()), static_cast<std::size_t>(a.nbytes()), release);
  storage->begin_export();  // the memory is the caller's: it may change at any time
  return Tensor(std::move(storage), shape, dtype);
}

}  // namespace

DType dtype_from(const py::dtype& d) {
  for (const DType t : {DType::kFloat32, DType::kInt64, DType::kInt32, DType::kUInt8, DType::kFloat64})
    if (d.equal(dtype_of(t))) return t;
  throw TypeError(str("expected an array of float32, int64, int32, uint8 or float64, got ",
                      std::string(py::str(py::handle(d)))));
}

Tensor tensor_from(const py::object& o) {
  if (o.is_none()) return {};
  if (py::isinstance<Tensor>(o)) return o.cast<Tensor>();
  if (!py::isinstance<py::array>(o)) throw TypeError(str("expected a NumPy array, got ", type_name(o)));
  py::array a = py::reinterpret_borrow<py::array>(o);
  dtype_from(a.dtype());
  if (!(a.flags() & py::array::c_style)) a = py::array::ensure(a, py::array::c_style);
  return wrap(a);
}

Tensor tensor_view(const py::object& o, const char* what, bool trust) {
  if (!py::isinstance<py::array>(o))
    throw TypeError(str(what, ": expected a NumPy array, got ", type_name(o)));
  const py::array a = py::reinterpret_borrow<py::array>(o);
  if (!(a.flags() & py::array::c_style) || !(trust || a.writeable()))
    throw ValueError(str(what, ": expected a writable C-contiguous array: it is updated in place"));
  return wrap(a);
}

py::array array_view(const Tensor& t) {
  auto* held = new std::shared_ptr<Storage>(t.storage());
  (*held)->begin_export();
  const py::capsule base(held, [](void* p) {
    auto* s = static_cast<std::shared_ptr<Storage>*>(p);
    (*s)->end_export();
    delete s;
  });
  return py::array(dtype_of(t.dtype()), t.shape().vec(), t.data(), base);
}

CallAttrs attrs_from(const py::dict& d) {
  CallAttrs out;
  for (const auto& [key, value] : d) {
    const auto name = key.cast<std::string>();
    if (name == "implementation") {
      out.implementation = value.cast<std::string>();
      if (out.implementation == "auto") out.implementation.clear();
    } else if (py::isinstance<py::bool_>(value)) {
      out.attrs.set(name, std::int64_t{value.cast<bool>()});
    } else if (PyIndex_Check(value.ptr())) {
      out.attrs.set(name, integer_from(name, value));
    } else if (py::isinstance<py::float_>(value)) {
      out.attrs.set(name, value.cast<double>());
    } else if (py::isinstance<py::str>(value)) {
      out.attrs.set(name, value.cast<std::string>());
    } else if (py::isinstance<py::sequence>(value)) {
      std::vector<std::int64_t> items;
      for (const auto& item : py::reinterpret_borrow<py::sequence>(value)) {
        if (!PyIndex_Check(item.ptr()))
          throw TypeError(str("attribute '", name, "': expected integers, got ", type_name(item)));
        items.push_back(integer_from(name, item));
      }
      out.attrs.set(name, std::move(items));
    } else {
      throw TypeError(
          str("attribute '", name, "': expected int, float, str or integers, got ", type_name(value)));
    }
  }
  return out;
}

void bind_tensor(py::module_& m) {
  py::class_<Tensor>(m, "Tensor", "An n-dimensional array in the core's own 64-byte aligned memory.")
      .def(py::init([](const py::object& a) {
             if (!py::isinstance<py::array>(a))
               throw TypeError(str("Tensor: expected a NumPy array, got ", type_name(a)));
             const Tensor from = tensor_from(a);
             if (from.dtype() == DType::kFloat64)
               throw TypeError("expected an array of float32, int64, int32 or uint8, got float64");
             Tensor t(from.shape(), from.dtype());
             std::copy_n(from.as<char>(), from.bytes(), t.as<char>());
             return t;
           }),
           py::arg("array"))
      .def_property_readonly("shape", [](const Tensor& t) { return py::tuple(py::cast(t.shape().vec())); })
      .def_property_readonly("dtype", [](const Tensor& t) { return dtype_of(t.dtype()); })
      .def_property_readonly("nbytes", &Tensor::bytes)
      .def("numpy", &array_view, "The tensor's memory as an array, without a copy.")
      .def(
          "__array__",
          [](const Tensor& t, const py::object& dtype, const py::object& copy) -> py::object {
            const py::array a = array_view(t);
            if (!dtype.is_none() && !a.dtype().equal(py::dtype::from_args(dtype)))
              return a.attr("astype")(dtype);
            return !copy.is_none() && copy.cast<bool>() ? a.attr("copy")() : py::object(a);
          },
          py::arg("dtype") = py::none(), py::arg("copy") = py::none())
      .def("__dlpack__",
           [](const Tensor& t, const py::kwargs& kw) { return array_view(t).attr("__dlpack__")(**kw); })
      .def("__dlpack_device__", [](const Tensor&) { return py::make_tuple(1, 0); })
      .def("__repr__",
           [](const Tensor& t) { return str("Tensor(", t.shape(), ", ", name_of(t.dtype()), ")"); });
  m.def(
      "tensor_view", [](const py::array& a, bool trust) { return tensor_view(a, "tensor_view", trust); },
      py::arg("array"), py::arg("trust") = false,
      "A Tensor over the array's own memory; trust: it may be written although the array says otherwise.");
}

}  // namespace fastcnn::bindings

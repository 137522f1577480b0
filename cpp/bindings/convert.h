// Between Python objects and the core's types.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include "core/tensor.h"
#include "ops/attrs.h"

namespace fastcnn::bindings {

namespace py = pybind11;

// Memory of `a` without a copy when it is C-contiguous, else a copy; None gives an undefined tensor.
// TypeError for element types the core does not have.
Tensor tensor_from(const py::object& a);
// As tensor_from, but never a copy: ValueError when `a` is not a writable C-contiguous array. trust: it may
// be written, whatever its flag says.
Tensor tensor_view(const py::object& a, const char* what, bool trust = false);
// The tensor's own memory; it lives as long as the array does.
py::array array_view(const Tensor& t);
// Keyword "implementation" of a call, taken out of its attributes: the one to force, or "" for auto.
struct CallAttrs {
  ops::Attrs attrs;
  std::string implementation;
};
CallAttrs attrs_from(const py::dict& d);
DType dtype_from(const py::dtype& d);

void bind_tensor(py::module_& m);
void bind_graph(py::module_& m);

}  // namespace fastcnn::bindings

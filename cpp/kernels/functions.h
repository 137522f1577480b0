// Elementwise functions: what kernels are told of one, and what the rest of the house knows about all of
// them. The table itself is functions.inc.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace fastcnn {

enum class FunctionKind : std::uint8_t {
  kNone,  // y = x
#define FUNCTION(id, ...) id,
#include "kernels/functions.inc"
#undef FUNCTION
};

// A function with its parameters.
struct Function {
  FunctionKind kind = FunctionKind::kNone;
  float a = 0, b = 0;
  explicit operator bool() const { return kind != FunctionKind::kNone; }
};

struct FunctionRow {
  FunctionKind kind;
  const char* name;
  struct Parameter {
    const char* name;
    double fallback;
  };
  std::vector<Parameter> parameters;
  bool from_input;  // the gradient is computed from x, not from y
  double flops, gradient_flops;
};

const std::vector<FunctionRow>& functions();                 // in the table's order, without kNone
const FunctionRow& row_of(FunctionKind kind);                // not for kNone
const FunctionRow* function_named(const std::string& name);  // null when there is none

}  // namespace fastcnn

#include "kernels/functions.h"

#include <cstring>

namespace fastcnn {

const std::vector<FunctionRow>& functions() {
  constexpr bool kInput = true, kOutput = false;
  static const std::vector<FunctionRow> rows = {
#define PARAMETERS(...) {__VA_ARGS__}
#define FUNCTION(id, name, parameters, reads, flops, gradient_flops, value, gradient) \
  {FunctionKind::id, name, parameters, reads, flops, gradient_flops},
#include "kernels/functions.inc"
#undef FUNCTION
#undef PARAMETERS
  };
  static_cast<void>(kInput), static_cast<void>(kOutput);
  return rows;
}

const FunctionRow& row_of(FunctionKind kind) { return functions()[static_cast<std::size_t>(kind) - 1]; }

const FunctionRow* function_named(const std::string& name) {
  for (const FunctionRow& row : functions())
    if (name == row.name) return &row;
  return nullptr;
}

}  // namespace fastcnn

#include "ops/registry.h"

namespace fastcnn::ops {

void register_shape_ops(Registry& r) {}

}  // namespace fastcnn::ops

#include "ops/registry.h"

namespace fastcnn::ops {

void register_sgd(Registry& r) {}

}  // namespace fastcnn::ops

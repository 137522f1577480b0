#include "kernels/pointwise.h"

#include "kernels/simd/simd.h"

namespace fastcnn {
namespace FASTCNN_ISA {

extern const PointwiseKernels kPointwise;
const PointwiseKernels kPointwise = {};

}  // namespace FASTCNN_ISA
}  // namespace fastcnn

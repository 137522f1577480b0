#include "kernels/norm.h"

#include "kernels/simd/simd.h"

namespace fastcnn {
namespace FASTCNN_ISA {

extern const NormKernels kNorm;
const NormKernels kNorm = {};

}  // namespace FASTCNN_ISA
}  // namespace fastcnn

#include "kernels/linear.h"

#include "kernels/simd/simd.h"

namespace fastcnn {
namespace FASTCNN_ISA {

extern const LinearKernels kLinear;
const LinearKernels kLinear = {};

}  // namespace FASTCNN_ISA
}  // namespace fastcnn

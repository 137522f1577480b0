#include "kernels/conv.h"

#include "kernels/simd/simd.h"

namespace fastcnn {
namespace FASTCNN_ISA {

extern const ConvKernels kConv;
const ConvKernels kConv = {};

}  // namespace FASTCNN_ISA
}  // namespace fastcnn

#include "kernels/layout.h"

#include "kernels/simd/simd.h"

namespace fastcnn {
namespace FASTCNN_ISA {

extern const LayoutKernels kLayout;
const LayoutKernels kLayout = {};

}  // namespace FASTCNN_ISA
}  // namespace fastcnn

#include "kernels/winograd.h"

#include "kernels/simd/simd.h"

namespace fastcnn {
namespace FASTCNN_ISA {

extern const WinogradKernels kWinograd;
const WinogradKernels kWinograd = {};

}  // namespace FASTCNN_ISA
}  // namespace fastcnn

#include "kernels/interleaved.h"

#include "kernels/simd/simd.h"

namespace fastcnn {
namespace FASTCNN_ISA {

extern const InterleavedKernels kInterleaved;
const InterleavedKernels kInterleaved = {};

}  // namespace FASTCNN_ISA
}  // namespace fastcnn

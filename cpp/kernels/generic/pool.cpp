#include "kernels/pool.h"

#include "kernels/simd/simd.h"

namespace fastcnn {
namespace FASTCNN_ISA {

extern const PoolKernels kPool;
const PoolKernels kPool = {};

}  // namespace FASTCNN_ISA
}  // namespace fastcnn

// Collects the areas' kernels of one instruction set into its table.
#pragma once

#include "kernels/simd/simd.h"
#include "kernels/table.h"

namespace fastcnn::FASTCNN_ISA {

extern const ConvKernels kConv;
extern const WinogradKernels kWinograd;
extern const InterleavedKernels kInterleaved;
extern const LinearKernels kLinear;
extern const PoolKernels kPool;
extern const NormKernels kNorm;
extern const PointwiseKernels kPointwise;
extern const LossKernels kLoss;
extern const LayoutKernels kLayout;
extern const ProbeKernels kProbe;

extern const KernelTable kTable = {FASTCNN_STRING(FASTCNN_ISA),
                                   kWidth,
                                   &kConv,
                                   &kWinograd,
                                   &kInterleaved,
                                   &kLinear,
                                   &kPool,
                                   &kNorm,
                                   &kPointwise,
                                   &kLoss,
                                   &kLayout,
                                   &kProbe};

}  // namespace fastcnn::FASTCNN_ISA

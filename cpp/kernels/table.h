// One table of kernels per instruction set, and the choice between them. Kernels do one thread's arithmetic
// on raw pointers: no allocation, no checks, no OpenMP. Each area declares its functions in kernels/<area>.h.
#pragma once

#include <string>
#include <vector>

namespace fastcnn {

struct ConvKernels;
struct WinogradKernels;
struct InterleavedKernels;
struct LinearKernels;
struct PoolKernels;
struct NormKernels;
struct PointwiseKernels;
struct LossKernels;
struct LayoutKernels;
struct ProbeKernels;

struct KernelTable {
  const char* isa;  // "avx512"
  int width;        // floats per vector = images per batch-interleaved block
  const ConvKernels* conv;
  const WinogradKernels* winograd;
  const InterleavedKernels* interleaved;
  const LinearKernels* linear;
  const PoolKernels* pool;
  const NormKernels* norm;
  const PointwiseKernels* pointwise;
  const LossKernels* loss;
  const LayoutKernels* layout;
  const ProbeKernels* probe;
};

// The table in use: chosen at import from what the CPU and the operating system support, or FASTCNN_ISA.
const KernelTable& kernels();
// Names compiled in and supported here, best first.
std::vector<std::string> available_isas();
std::vector<std::string> compiled_isas();
// ValueError for an unknown or unsupported name. For tests and FASTCNN_ISA; not while a plan runs.
void select_isa(const std::string& name);

}  // namespace fastcnn

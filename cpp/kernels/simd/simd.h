// The small vector type of the instruction set this file is compiled for. Kernels are written once over it.
//
// This header and the one of the instruction set define, in namespace fastcnn::FASTCNN_ISA:
//   kWidth                     floats per vector; also the images in one batch-interleaved block
//   kAccumulators              vector registers a kernel may use for sums without spilling
//   Vec                        GCC/Clang vector of kWidth floats: + - * / and comparisons work on it
//   IVec                       the same for int32 (a comparison's result: 0 or -1 per lane)
//   load, store                unaligned; load_n, store_n: the first n lanes only, others read as 0 / stay
//   stream                     store past the cache; the address must be aligned to kWidth * 4 bytes
//   stream_fence               orders streamed stores before what follows
//   broadcast, zero
//   fma(a, b, c)               a * b + c
//   fma_at(p, b, c)            the same with *p in all lanes, as a memory operand where there is such a thing
//   vmax, vmin                 a NaN in the first operand gives the second operand (as on x86)
//   select(mask, a, b)         mask ? a : b per lane
//   reciprocal                 1 / x to within 2 ulp
//   round_int(x)               nearest int32;  to_float(IVec);  bits(IVec) / bits(Vec): reinterpret
//   reduce_add, reduce_max     over lanes, in a fixed order
//   reduce_add_each(v)         lane i: the sum over the lanes of v[i], for kWidth vectors
//   positive_bits(v)           bit i set where v[i] > 0
//   keep_bits(bits, v)         v where the bit is set, else 0
//   load_u8, store_u8          kWidth bytes <-> IVec (values 0..255)
//   transpose(src, ls, dst, ld)  kWidth x kWidth block: dst[j * ld + i] = src[i * ls + j]
#pragma once

#include <cstddef>
#include <cstdint>

#define FASTCNN_INLINE inline __attribute__((always_inline))

#define FASTCNN_STRING_(x) #x
#define FASTCNN_STRING(x) FASTCNN_STRING_(x)

namespace fastcnn::FASTCNN_ISA {

#if defined(FASTCNN_ISA_AVX512)
constexpr int kWidth = 16, kAccumulators = 28;
#elif defined(FASTCNN_ISA_AVX2)
constexpr int kWidth = 8, kAccumulators = 12;
#elif defined(FASTCNN_ISA_NEON)
constexpr int kWidth = 4, kAccumulators = 24;
#elif defined(FASTCNN_ISA_SCALAR)
constexpr int kWidth = 4, kAccumulators = 8;
#else
#error "compile this file through cmake/isa_kernels.cmake"
#endif

typedef float Vec __attribute__((vector_size(kWidth * 4)));
typedef std::int32_t IVec __attribute__((vector_size(kWidth * 4)));

}  // namespace fastcnn::FASTCNN_ISA

#include FASTCNN_STRING(FASTCNN_ISA.h)  // of this folder
#include "kernels/simd/common.h"

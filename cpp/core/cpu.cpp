#include "core/cpu.h"

#include <cstdint>
#include <fstream>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace fastcnn {
namespace {

#if defined(__x86_64__)
struct Regs {
  unsigned a = 0, b = 0, c = 0, d = 0;
};

Regs cpuid(unsigned leaf, unsigned sub) {
  Regs r;
  __get_cpuid_count(leaf, sub, &r.a, &r.b, &r.c, &r.d);
  return r;
}

// Which register files the operating system saves; 0 when it cannot tell (no OSXSAVE).
std::uint64_t xcr0() {
  if (!(cpuid(1, 0).c >> 27 & 1)) return 0;
  unsigned lo = 0, hi = 0;
  __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
  return std::uint64_t{hi} << 32 | lo;
}

bool has_avx2() {
  const Regs l1 = cpuid(1, 0), l7 = cpuid(7, 0);
  const bool fma = l1.c >> 12 & 1, avx = l1.c >> 28 & 1, avx2 = l7.b >> 5 & 1;
  return fma && avx && avx2 && (xcr0() & 0x6) == 0x6;
}

bool has_avx512() {
  const unsigned b = cpuid(7, 0).b;
  const bool f = b >> 16 & 1, dq = b >> 17 & 1, bw = b >> 30 & 1, vl = b >> 31 & 1;
  return has_avx2() && f && dq && bw && vl && (xcr0() & 0xE6) == 0xE6;
}
#endif

}  // namespace

bool isa_supported(const std::string& name) {
  if (name == "scalar") return true;
#if defined(__x86_64__)
  static const bool avx2 = has_avx2(), avx512 = has_avx512();
  if (name == "avx2") return avx2;
  if (name == "avx512") return avx512;
#elif defined(__aarch64__)
  if (name == "neon") return true;  // part of the 64-bit baseline
#endif
  return false;
}

std::string compiler() { return FASTCNN_COMPILER; }

std::string cpu_name() {
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line);)
    if (line.rfind("model name", 0) == 0) return line.substr(line.find(':') + 2);
  return "unknown";
}

}  // namespace fastcnn

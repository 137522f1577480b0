// What this CPU and this operating system support.
#pragma once

#include <string>

namespace fastcnn {

// "scalar", "avx2", "avx512" or "neon": usable here, by the CPU and by the operating system that saves its
// registers.
bool isa_supported(const std::string& name);
std::string cpu_name();
std::string compiler();  // that built the core

}  // namespace fastcnn

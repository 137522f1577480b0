// Chooses the kernel table: best first, or the one FASTCNN_ISA names.
#include <atomic>
#include <cstdlib>

#include "core/cpu.h"
#include "core/error.h"
#include "kernels/table.h"

namespace fastcnn {

#define FASTCNN_DECLARE(isa)       \
  namespace isa {                  \
  extern const KernelTable kTable; \
  }
#ifdef FASTCNN_HAVE_AVX512
FASTCNN_DECLARE(avx512)
#endif
#ifdef FASTCNN_HAVE_AVX2
FASTCNN_DECLARE(avx2)
#endif
#ifdef FASTCNN_HAVE_NEON
FASTCNN_DECLARE(neon)
#endif
FASTCNN_DECLARE(scalar)
#undef FASTCNN_DECLARE

namespace {

constexpr const KernelTable* kTables[] = {
#ifdef FASTCNN_HAVE_AVX512
    &avx512::kTable,
#endif
#ifdef FASTCNN_HAVE_AVX2
    &avx2::kTable,
#endif
#ifdef FASTCNN_HAVE_NEON
    &neon::kTable,
#endif
    &scalar::kTable,
};

std::string joined(const std::vector<std::string>& names) {
  std::string s;
  for (const auto& n : names) s += (s.empty() ? "" : ", ") + n;
  return s;
}

const KernelTable* table_named(const std::string& name) {
  for (const KernelTable* t : kTables)
    if (name == t->isa) {
      if (isa_supported(name)) return t;
      throw ValueError(str("instruction set '", name,
                           "' is not supported by this machine; available here: ", joined(available_isas())));
    }
  throw ValueError(str("unknown instruction set '", name, "'; compiled in: ", joined(compiled_isas())));
}

const KernelTable* first_choice() {
  if (const char* forced = std::getenv("FASTCNN_ISA"); forced && *forced)
    return in_the_name_of("FASTCNN_ISA", [&] { return table_named(forced); });
  return table_named(available_isas().front());
}

std::atomic<const KernelTable*> active{nullptr};

}  // namespace

std::vector<std::string> compiled_isas() {
  std::vector<std::string> names;
  for (const KernelTable* t : kTables) names.emplace_back(t->isa);
  return names;
}

std::vector<std::string> available_isas() {
  std::vector<std::string> names;
  for (const KernelTable* t : kTables)
    if (isa_supported(t->isa)) names.emplace_back(t->isa);
  return names;
}

const KernelTable& kernels() {
  const KernelTable* t = active.load(std::memory_order_relaxed);
  if (!t) active.store(t = first_choice());
  return *t;
}

void select_isa(const std::string& name) { active.store(table_named(name)); }

}  // namespace fastcnn

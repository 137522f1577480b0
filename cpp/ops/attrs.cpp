#include "ops/attrs.h"

#include "core/error.h"

namespace fastcnn::ops {
namespace {

std::string text_of(const AttrValue& v) {
  if (const auto* i = std::get_if<std::int64_t>(&v)) return std::to_string(*i);
  if (const auto* d = std::get_if<double>(&v)) return str(*d);
  if (const auto* s = std::get_if<std::string>(&v)) return str('"', *s, '"');
  std::string out = "[";
  for (const std::int64_t i : std::get<std::vector<std::int64_t>>(v))
    out += (out.size() > 1 ? ", " : "") + std::to_string(i);
  return out + "]";
}

[[noreturn]] void wrong_kind(const std::string& name, const char* expected, const AttrValue& v) {
  throw ValueError(str("attribute '", name, "': expected ", expected, ", got ", text_of(v)));
}

}  // namespace

std::int64_t Attrs::integer(const std::string& name, std::int64_t fallback) const {
  const auto it = items_.find(name);
  if (it == items_.end()) return fallback;
  if (const auto* i = std::get_if<std::int64_t>(&it->second)) return *i;
  wrong_kind(name, "an integer", it->second);
}

double Attrs::number(const std::string& name, double fallback) const {
  const auto it = items_.find(name);
  if (it == items_.end()) return fallback;
  if (const auto* d = std::get_if<double>(&it->second)) return *d;
  if (const auto* i = std::get_if<std::int64_t>(&it->second)) return static_cast<double>(*i);
  wrong_kind(name, "a number", it->second);
}

std::string Attrs::text(const std::string& name, const std::string& fallback) const {
  const auto it = items_.find(name);
  if (it == items_.end()) return fallback;
  if (const auto* s = std::get_if<std::string>(&it->second)) return *s;
  wrong_kind(name, "a text", it->second);
}

std::vector<std::int64_t> Attrs::ints(const std::string& name, int n, std::int64_t fallback) const {
  const auto count = static_cast<std::size_t>(n);
  const auto it = items_.find(name);
  if (it == items_.end()) return std::vector<std::int64_t>(count, fallback);
  if (const auto* i = std::get_if<std::int64_t>(&it->second)) return std::vector<std::int64_t>(count, *i);
  if (const auto* v = std::get_if<std::vector<std::int64_t>>(&it->second); v && v->size() == count) return *v;
  wrong_kind(name, str(n, " integers").c_str(), it->second);
}

std::string Attrs::describe() const {
  std::string out;
  for (const auto& [name, value] : items_) out += (out.empty() ? "" : ", ") + name + "=" + text_of(value);
  return out;
}

}  // namespace fastcnn::ops

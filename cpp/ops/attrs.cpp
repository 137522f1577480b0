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

AttrValue converted(const AttrSpec& spec, const AttrValue& v) {
  static const char* const kNames[] = {"an integer", "a number", "a text", "integers"};
  if (v.index() == static_cast<std::size_t>(spec.kind)) return v;
  if (const auto* i = std::get_if<std::int64_t>(&v)) {
    if (spec.kind == AttrKind::kNumber) return static_cast<double>(*i);
    if (spec.kind == AttrKind::kIntegers) return std::vector<std::int64_t>{*i};
  }
  throw ValueError(str("attribute '", spec.name, "': expected ", kNames[static_cast<int>(spec.kind)],
                       ", got ", text_of(v)));
}

}  // namespace

const AttrValue& Attrs::at(const std::string& name) const {
  const auto it = items_.find(name);
  if (it == items_.end()) throw ValueError(str("expected the attribute ", name));
  return it->second;
}

std::int64_t Attrs::integer(const std::string& name) const { return std::get<std::int64_t>(at(name)); }
double Attrs::number(const std::string& name) const { return std::get<double>(at(name)); }
const std::string& Attrs::text(const std::string& name) const { return std::get<std::string>(at(name)); }

std::vector<std::int64_t> Attrs::ints(const std::string& name, int n) const {
  const auto count = static_cast<std::size_t>(n);
  const auto& v = std::get<std::vector<std::int64_t>>(at(name));
  if (v.size() == count) return v;
  if (v.size() == 1) return std::vector<std::int64_t>(count, v[0]);
  throw ValueError(str("attribute '", name, "': expected ", n, " integers, got ", text_of(v)));
}

Attrs checked(const std::vector<AttrSpec>& known, const Attrs& given) {
  Attrs out;
  for (const AttrSpec& spec : known) {
    const auto it = given.items().find(spec.name);
    if (it != given.items().end())
      out.set(spec.name, converted(spec, it->second));
    else if (spec.fallback)
      out.set(spec.name, converted(spec, *spec.fallback));
    else
      check(!spec.required, "expected the attribute ", spec.name);
  }
  for (const auto& [name, value] : given.items()) {
    bool is_known = false;
    for (const AttrSpec& spec : known) is_known = is_known || name == spec.name;
    if (is_known) continue;
    std::string names;
    for (const AttrSpec& spec : known) names += str(names.empty() ? "" : ", ", spec.name);
    throw ValueError(
        str("unknown attribute '", name, "'; ", names.empty() ? "there are none" : "known: " + names));
  }
  return out;
}

}  // namespace fastcnn::ops

// What an op is told besides its inputs. Each op declares its attributes; they are checked and completed
// once, when a call is recorded.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace fastcnn::ops {

using AttrValue = std::variant<std::int64_t, double, std::string, std::vector<std::int64_t>>;

enum class AttrKind : std::uint8_t {
  kInteger,
  kNumber,
  kText,
  kIntegers
};  // in AttrValue's order; flags are integers 0 and 1

struct AttrSpec {
  const char* name;
  AttrKind kind;
  std::optional<AttrValue> fallback = {};  // without one, has() tells whether it was given
  bool required = false;
};

class Attrs {
 public:
  Attrs() = default;
  Attrs(std::initializer_list<std::pair<const std::string, AttrValue>> items) : items_(items) {}

  void set(const std::string& name, AttrValue v) { items_[name] = std::move(v); }
  bool has(const std::string& name) const { return items_.count(name) != 0; }
  // Of attributes that are there, as checked() leaves them. Each throws ValueError when it is missing.
  std::int64_t integer(const std::string& name) const;
  bool flag(const std::string& name) const { return integer(name) != 0; }
  double number(const std::string& name) const;
  const std::string& text(const std::string& name) const;
  // Exactly n integers; a single one stands for n equal ones. ValueError for another count.
  std::vector<std::int64_t> ints(const std::string& name, int n) const;
  const std::map<std::string, AttrValue>& items() const { return items_; }

 private:
  const AttrValue& at(const std::string& name) const;
  std::map<std::string, AttrValue> items_;
};

// `given` with the defaults of what is missing. ValueError for an unknown name (it lists the known ones), a
// value of another kind, or a required one that is missing. Integers are taken as numbers, not the reverse.
Attrs checked(const std::vector<AttrSpec>& known, const Attrs& given);

}  // namespace fastcnn::ops

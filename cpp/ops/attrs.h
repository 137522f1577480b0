// What an op is told besides its inputs: names with integers, numbers, texts or integer lists.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <variant>
#include <vector>

namespace fastcnn::ops {

using AttrValue = std::variant<std::int64_t, double, std::string, std::vector<std::int64_t>>;

class Attrs {
 public:
  Attrs() = default;
  Attrs(std::initializer_list<std::pair<const std::string, AttrValue>> items) : items_(items) {}

  void set(const std::string& name, AttrValue v) { items_[name] = std::move(v); }
  bool has(const std::string& name) const { return items_.count(name) != 0; }
  // Each throws ValueError when the value is of another kind; integers are taken as numbers, not the reverse.
  std::int64_t integer(const std::string& name, std::int64_t fallback) const;
  bool flag(const std::string& name, bool fallback) const { return integer(name, fallback) != 0; }
  double number(const std::string& name, double fallback) const;
  std::string text(const std::string& name, const std::string& fallback) const;
  // Exactly n integers; a single integer stands for n equal ones.
  std::vector<std::int64_t> ints(const std::string& name, int n, std::int64_t fallback) const;
  const std::map<std::string, AttrValue>& items() const { return items_; }
  std::string describe() const;  // "kernel_size=[2, 2], stride=[2, 2]"

 private:
  std::map<std::string, AttrValue> items_;
};

}  // namespace fastcnn::ops

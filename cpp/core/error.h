// Typed errors and the text helper they are written with. The bindings turn each into the Python exception
// of the same name.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace fastcnn {

struct ValueError : std::runtime_error {
  using std::runtime_error::runtime_error;
};
struct TypeError : std::runtime_error {
  using std::runtime_error::runtime_error;
};
struct MemoryError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// str(1, "x", shape): the arguments streamed one after the other.
template <class... Args>
std::string str(const Args&... args) {
  std::ostringstream out;
  (out << ... << args);
  return out.str();
}

// f(), with who it was in front of what an error says.
template <class F>
auto in_the_name_of(const std::string& who, F&& f) {
  try {
    return f();
  } catch (const ValueError& e) {
    throw ValueError(str(who, ": ", e.what()));
  } catch (const TypeError& e) {
    throw TypeError(str(who, ": ", e.what()));
  }
}

template <class... Args>
void check(bool ok, const Args&... message) {
  if (!ok) throw ValueError(str(message...));
}

}  // namespace fastcnn

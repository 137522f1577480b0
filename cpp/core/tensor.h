// Tensors: a shape and a type over shared, row-major, 64-byte aligned memory, or over somebody else's memory
// (NumPy, DLPack) that a deleter keeps alive.
#pragma once

#include <atomic>
#include <cstddef>
#include <functional>
#include <memory>

#include "core/access.h"
#include "core/dtype.h"
#include "core/shape.h"

namespace fastcnn {

constexpr std::size_t kAlignment = 64;

class Storage : public Lockable {
 public:
  explicit Storage(std::size_t bytes);  // owned, contents undefined; MemoryError when there is none
  Storage(void* data, std::size_t bytes, std::function<void()> release);
  ~Storage();
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  void* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }

  // A writable view of the memory is out in the world (a NumPy array, a DLPack capsule): while one lives, the
  // contents may change at any moment, so nothing derived from them may be kept.
  void begin_export() { exports_.fetch_add(1), touch(); }
  void end_export() { exports_.fetch_sub(1), touch(); }
  bool exported() const { return exports_.load() > 0; }
  void touch() { version_.fetch_add(1); }  // after every change of the contents
  std::uint64_t version() const { return version_.load(); }

 private:
  void* data_ = nullptr;
  std::size_t bytes_ = 0;
  std::function<void()> release_;
  std::atomic<int> exports_{0};
  std::atomic<std::uint64_t> version_{1};
};

class Tensor {
 public:
  Tensor() = default;                                                  // no storage: an absent optional input
  explicit Tensor(const Shape& shape, DType dtype = DType::kFloat32);  // contents undefined
  Tensor(std::shared_ptr<Storage> storage, const Shape& shape, DType dtype);

  bool defined() const { return storage_ != nullptr; }
  const Shape& shape() const { return shape_; }
  DType dtype() const { return dtype_; }
  std::size_t bytes() const { return static_cast<std::size_t>(shape_.numel() * size_of(dtype_)); }
  void* data() const { return storage_ ? storage_->data() : nullptr; }
  template <class T>
  T* as() const {
    return static_cast<T*>(data());
  }
  const std::shared_ptr<Storage>& storage() const { return storage_; }

 private:
  std::shared_ptr<Storage> storage_;
  Shape shape_;
  DType dtype_ = DType::kFloat32;
};

}  // namespace fastcnn

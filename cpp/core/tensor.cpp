#include "core/tensor.h"

#include <cstdlib>

#include "core/error.h"
#include "core/poison.h"

namespace fastcnn {

Storage::Storage(std::size_t bytes) : bytes_(bytes) {
  const std::size_t rounded = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  data_ = std::aligned_alloc(kAlignment, rounded ? rounded : kAlignment);
  if (!data_) throw MemoryError(str("cannot allocate ", bytes, " bytes for a tensor"));
  poison(data_, bytes);
  release_ = [p = data_] { std::free(p); };
}

Storage::Storage(void* data, std::size_t bytes, std::function<void()> release)
    : data_(data), bytes_(bytes), release_(std::move(release)) {}

Storage::~Storage() {
  if (release_) release_();
}

Tensor::Tensor(const Shape& shape, DType dtype)
    : Tensor(
          std::make_shared<Storage>(static_cast<std::size_t>(checked_product(shape.numel(), size_of(dtype)))),
          shape, dtype) {}

Tensor::Tensor(std::shared_ptr<Storage> storage, const Shape& shape, DType dtype)
    : storage_(std::move(storage)), shape_(shape), dtype_(dtype) {}

}  // namespace fastcnn

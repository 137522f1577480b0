#include "ops/sliced.h"

#include <type_traits>

namespace fastcnn::ops {
namespace {

template <class T>  // (const) void
void move_to(std::int64_t slice, T* const* from, const std::vector<std::int64_t>& steps, T** to) {
  using Byte = std::conditional_t<std::is_const_v<T>, const std::byte, std::byte>;
  for (std::size_t k = 0; k < steps.size(); ++k)
    to[k] = from[k] && steps[k] > 0 ? static_cast<Byte*>(from[k]) + slice * steps[k] : from[k];
}

}  // namespace

Sliced::Sliced(const Problem& p) : block_(p.kernels().width) {
  const auto add = [&](const TensorDesc& d, std::vector<std::int64_t>& steps) {
    const bool is_cut = !d.absent && d.layout == Layout::kInterleaved;
    steps.push_back(is_cut ? step_of(d) : -1);
    if (is_cut) batch_ = d.shape[0];
  };
  for (const TensorDesc& d : p.inputs) add(d, in_step_);
  for (const TensorDesc& d : p.outputs) add(d, out_step_);
  slices_ = ceil_div(batch_, block_);
  groups_ = std::min(slices_, kItems);
  stages_ = {groups_};
}

// Bytes from one block of images to the next.
std::int64_t Sliced::step_of(const TensorDesc& d) const {
  if (d.shape.numel() == 0) return 0;
  if (d.shape.rank() == 1) return block_ * size_of(d.dtype);
  const std::int64_t image = geometry_of(d).image;
  return (d.layout == Layout::kInterleaved ? image : image * block_) * size_of(d.dtype);
}

void Sliced::reduces(std::size_t partial_bytes, std::int64_t finish_items) {
  partial_bytes_ = partial_bytes, finish_items_ = finish_items;
  groups_ = std::min(slices_, groups_of(kItems, 1e30, 1, static_cast<std::int64_t>(partial_step())));
  stages_ = {groups_, finish_items_};
}

void Sliced::run_slice(const void* const* in, void* const* out, std::byte* own, std::int64_t i,
                       std::byte* pointers) const {
  auto** const ins = reinterpret_cast<const void**>(pointers);
  auto** const outs = reinterpret_cast<void**>(pointers + in_step_.size() * sizeof(void*));
  move_to(i, in, in_step_, ins);
  move_to(i, out, out_step_, outs);
  slice({ins, outs, own, std::min<std::int64_t>(block_, batch_ - i * block_)});
}

void Sliced::item(const RunArgs& a, int stage, std::int64_t i, const Worker& w) const {
  if (stage == 1) return finish(a.shared, groups_, a, i);
  start(w.own);
  const Part part = part_of(slices_, groups_, i);
  for (std::int64_t s = part.begin; s < part.end; ++s) run_slice(a.in, a.out, w.own, s, w.own + own_.bytes());
  if (partial_bytes_) end(w.own, a.shared + partial_step() * static_cast<std::size_t>(i));
}

}  // namespace fastcnn::ops

#include "onnx_runtime_tensors.hpp"

#include <utility>

namespace lrp_edge {
namespace {

constexpr std::size_t kMostPlaces = 32;
constexpr std::size_t kMostShapes = 16;

Ort::MemoryInfo cpu_memory() {
  return Ort::MemoryInfo::CreateCpu(OrtDeviceAllocator, OrtMemTypeDefault);
}

template <class T, std::size_t Rank>
Ort::Value tensor(const Ort::MemoryInfo& memory, T* data, const std::array<std::int64_t, Rank>& shape) {
  std::size_t count = 1;
  for (const std::int64_t extent : shape) count *= static_cast<std::size_t>(extent);
  return Ort::Value::CreateTensor<T>(memory, data, count, shape.data(), shape.size());
}

/// Keep an entry, in place of the oldest one if there are too many.
template <class Entry>
Entry& keep(std::vector<Entry>& entries, std::size_t most, std::size_t& oldest, Entry entry) {
  if (entries.size() < most) {
    entries.push_back(std::move(entry));
    return entries.back();
  }
  Entry& replaced = entries[oldest];
  oldest = (oldest + 1) % most;
  replaced = std::move(entry);
  return replaced;
}

template <class T>
bool fits(const std::vector<T>& buffer, std::int64_t count) {
  return buffer.size() >= static_cast<std::size_t>(count);
}

template <class T>
void grow(std::vector<T>& buffer, std::int64_t count) {
  if (!fits(buffer, count)) buffer.resize(static_cast<std::size_t>(count));
}

}  // namespace

InputTensors::InputTensors(std::size_t channels)
    : channels_(static_cast<std::int64_t>(channels)), memory_(cpu_memory()) {}

Ort::Value& InputTensors::at(const std::uint8_t* data, const BatchShape& shape) {
  for (Entry& entry : entries_) {
    if (entry.data == data && entry.shape == shape) return entry.tensor;
  }
  // ONNX Runtime has no tensor of constant memory; it does not write to an input.
  Entry entry{data, shape,
              tensor(memory_, const_cast<std::uint8_t*>(data),
                     std::array<std::int64_t, 4>{shape[0], shape[1], shape[2], channels_})};
  return keep(entries_, kMostPlaces, oldest_, std::move(entry)).tensor;
}

OutputTensors::OutputTensors(std::size_t classes)
    : classes_(static_cast<std::int64_t>(classes)), memory_(cpu_memory()) {}

OutputTensors::Values& OutputTensors::of(const BatchShape& shape) {
  for (Entry& entry : entries_) {
    if (entry.shape == shape) return entry.tensors;
  }
  fit(shape);
  return keep(entries_, kMostShapes, oldest_, Entry{shape, make(shape)}).tensors;
}

Outputs OutputTensors::view() const noexcept {
  return {scores_.data(), label_.data(), mask_.data(), relevance_.data()};
}

void OutputTensors::fit(const BatchShape& shape) {
  const auto [count, height, width] = shape;
  const std::int64_t scores = count * classes_, pixels = count * height * width;
  if (fits(scores_, scores) && fits(label_, count) && fits(mask_, pixels) && fits(relevance_, pixels)) return;
  // Before anything moves: should memory be short half-way, no tensor points to what is gone.
  entries_.clear();
  oldest_ = 0;
  grow(scores_, scores);
  grow(label_, count);
  grow(mask_, pixels);
  grow(relevance_, pixels);
}

OutputTensors::Values OutputTensors::make(const BatchShape& shape) {
  return {tensor(memory_, scores_.data(), std::array<std::int64_t, 2>{shape[0], classes_}),
          tensor(memory_, label_.data(), std::array<std::int64_t, 1>{shape[0]}), tensor(memory_, mask_.data(), shape),
          tensor(memory_, relevance_.data(), shape)};
}

}  // namespace lrp_edge

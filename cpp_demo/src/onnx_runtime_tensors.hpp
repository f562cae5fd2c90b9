/// @file
/// Tensors of ONNX Runtime over memory that is used again.
#ifndef LRP_EDGE_SRC_ONNX_RUNTIME_TENSORS_HPP
#define LRP_EDGE_SRC_ONNX_RUNTIME_TENSORS_HPP

#include "backend.hpp"

#include <onnxruntime_cxx_api.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace lrp_edge {

/// {frames, height, width} of one call.
using BatchShape = std::array<std::int64_t, 3>;

/// Tensors over frames of the caller's. A tensor is made once for each place that frames come from, so that a ring of
/// buffers costs no memory after its first turn.
class InputTensors {
 public:
  explicit InputTensors(std::size_t channels);

  /// @param data uint8 [N, H, W, C], which is not copied.
  Ort::Value& at(const std::uint8_t* data, const BatchShape& shape);

 private:
  struct Entry {
    const std::uint8_t* data;
    BatchShape shape;
    Ort::Value tensor;
  };

  std::int64_t channels_;
  Ort::MemoryInfo memory_;
  std::vector<Entry> entries_;
  std::size_t oldest_ = 0;
};

/// The four outputs, in memory that fits the largest call so far.
class OutputTensors {
 public:
  static constexpr std::array<const char*, 4> kNames{"scores", "label", "mask", "relevance"};
  using Values = std::array<Ort::Value, kNames.size()>;

  explicit OutputTensors(std::size_t classes);

  /// Tensors for a shape, in the order of the names.
  Values& of(const BatchShape& shape);

  /// What the last call wrote.
  Outputs view() const noexcept;

 private:
  struct Entry {
    BatchShape shape;
    Values tensors;
  };

  void fit(const BatchShape& shape);
  Values make(const BatchShape& shape);

  std::int64_t classes_;
  Ort::MemoryInfo memory_;
  std::vector<float> scores_;
  std::vector<std::int32_t> label_;
  std::vector<std::uint8_t> mask_;
  std::vector<float> relevance_;
  std::vector<Entry> entries_;
  std::size_t oldest_ = 0;
};

}  // namespace lrp_edge

#endif

/// @file
/// What runs a graph, behind the same few calls: ONNX Runtime, TensorRT-RTX or TensorRT.
#ifndef LRP_EDGE_SRC_BACKEND_HPP
#define LRP_EDGE_SRC_BACKEND_HPP

#include <lrp_edge/card.hpp>
#include <lrp_edge/segmenter.hpp>
#include <lrp_edge/views.hpp>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

namespace lrp_edge {

/// The graph's answer to one call, in buffers of the backend that hold until its next call.
struct Outputs {
  const float* scores = nullptr;        ///< [N, K]
  const std::int32_t* label = nullptr;  ///< [N]
  const std::uint8_t* mask = nullptr;   ///< [N, H, W]
  const float* relevance = nullptr;     ///< [N, H, W]
};

/// A loaded file. One thread at a time may use it.
class Backend {
 public:
  Backend() = default;
  Backend(const Backend&) = delete;
  Backend& operator=(const Backend&) = delete;
  virtual ~Backend() = default;

  /// What the file is; the same object as long as the backend lives.
  virtual const Card& card() const noexcept = 0;

  /// The short name by which it is asked for, e.g. "cpu", "cuda" or "rtx".
  virtual const std::string& provider() const noexcept = 0;

  /// Answer one call.
  ///
  /// @param frames One or more, at most `card().largest_batch()`; all of one size that the card's input takes, with its
  ///   number of channels, and each with a stride that is valid (0 if the rows are adjacent). The caller has checked
  ///   so.
  /// @throws Error If the engine fails on them, or does not take them; the backend stays usable.
  virtual Outputs run(Span<const FrameView> frames) = 0;
};

/// Open an ONNX file with ONNX Runtime.
/// @throws Error If it cannot be.
std::unique_ptr<Backend> open_onnx_runtime(const std::filesystem::path& path, const Options& options);

/// Open an engine file with TensorRT-RTX or TensorRT; in a build without them, say so.
/// @throws Error If it cannot be opened.
std::unique_ptr<Backend> open_tensorrt(const std::filesystem::path& path, const Options& options);

}  // namespace lrp_edge

#endif

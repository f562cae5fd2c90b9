/// @file
/// An exported file, loaded and ready for frames.
#ifndef LRP_EDGE_SEGMENTER_HPP
#define LRP_EDGE_SEGMENTER_HPP

#include <lrp_edge/card.hpp>
#include <lrp_edge/error.hpp>
#include <lrp_edge/export.hpp>
#include <lrp_edge/result.hpp>
#include <lrp_edge/views.hpp>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

namespace lrp_edge {

/// How a file is opened.
struct Options {
  /// What runs an ONNX file: cpu, cuda, tensorrt, nv_tensorrt_rtx or openvino, each a provider of ONNX Runtime. Empty
  /// for CUDA if this ONNX Runtime has it and it starts, else the CPU. An engine file says itself what runs it. A GPU is
  /// the first one that CUDA shows; CUDA_VISIBLE_DEVICES chooses.
  std::string provider;
  /// Threads of one call on the CPU; 0 for as many as there are cores.
  int threads = 0;
  /// Whether regions are computed.
  bool regions = true;
  /// Regions of fewer pixels are left out.
  std::int64_t min_area = 1;
};

/// An engine behind the graph contract: frames in, class and mask out.
///
/// Threads: a Segmenter may be used by one thread at a time, and handed from one to another. Several Segmenters are
/// independent of each other, also of the same file.
///
/// Memory: a run allocates nothing once as many frames of that size have been run from the same place; a ring of up to
/// 32 buffers is remembered. There is room for 4096 regions; noise with more grows the buffers once. ONNX Runtime's
/// own allocations are not included.
///
/// ONNX Runtime 1.32 and later sends usage telemetry. When it is loaded, lrp_edge sets ORT_DISABLE_TELEMETRY=1
/// in the process's environment, unless that variable is already set.
class LRP_EDGE_API Segmenter {
 public:
  /// Load a file.
  /// @param path An `.onnx` file that `lrp-edge export` wrote, or an `.engine` of `lrp-edge compile`.
  /// @throws Error If the file does not exist, is not one of ours, or its backend is not installed or does not start.
  explicit Segmenter(const std::filesystem::path& path, const Options& options = {});

  Segmenter(const Segmenter&) = delete;
  Segmenter& operator=(const Segmenter&) = delete;
  /// A moved-from Segmenter can only be destroyed or assigned to.
  Segmenter(Segmenter&&) noexcept;
  Segmenter& operator=(Segmenter&&) noexcept;
  ~Segmenter();

  /// The model card; valid as long as the Segmenter.
  const Card& card() const noexcept;

  /// What runs it: cpu, cuda, tensorrt, nv_tensorrt_rtx, openvino or rtx.
  const std::string& provider() const noexcept;

  /// Segment one frame.
  ///
  /// A frame whose rows are adjacent is not copied on its way to ONNX Runtime. It is read during the call only.
  /// @return A result that is valid until the next run.
  /// @throws Error If the frame's shape, size or stride is not what the model takes, or the engine fails on it. The
  ///   Segmenter stays usable, unless CUDA says that the process cannot use the GPU any more.
  const Result& run(const FrameView& frame);

  /// Segment frames of one size in one call.
  /// @param frames At most as many as `card().largest_batch()`; none at all is allowed.
  /// @return A result for each frame, in their order; they are valid until the next run.
  /// @throws Error As for one frame; also if there are too many, or their sizes differ.
  Span<const Result> run(Span<const FrameView> frames);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace lrp_edge

#endif

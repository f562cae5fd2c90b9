/// @file
/// One call on a GPU: its stream, its buffers, its execution context.
#ifndef LRP_EDGE_SRC_TENSORRT_CALL_HPP
#define LRP_EDGE_SRC_TENSORRT_CALL_HPP

#include "backend.hpp"
#include "tensorrt_cuda.hpp"
#include "tensorrt_engine_file.hpp"

#include <lrp_edge/views.hpp>

#include <NvInferRuntime.h>

#include <cstddef>
#include <memory>

namespace lrp_edge::tensorrt {

/// Bytes of the input and of each output for frames of a shape.
struct BufferSizes {
  /// @throws Error If one of them does not fit into a std::size_t.
  BufferSizes(const FramesShape& shape, std::size_t classes);

  std::size_t total() const noexcept { return image + scores + label + mask + relevance; }

  std::size_t image = 0;
  std::size_t scores = 0;
  std::size_t label = 0;
  std::size_t mask = 0;
  std::size_t relevance = 0;
};

/// Copy in, inference, copy out, all on a stream of its own.
///
/// Buffers are allocated once, for the largest frames. Where it is asked for, inference is recorded as a CUDA graph
/// when a shape comes for the second time in succession, and replayed for as long as it stays; if it cannot be
/// recorded, it is enqueued as before.
class Call {
 public:
  /// @param context Of an engine that outlives this; nobody else uses it.
  /// @param largest The largest frames that will come.
  /// @param classes Number of scores.
  /// @param capture Whether to record CUDA graphs.
  /// @throws Error If memory is short, or the engine has other tensors than the contract's.
  Call(std::unique_ptr<nvinfer1::IExecutionContext> context, const FramesShape& largest, std::size_t classes,
       bool capture);
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;
  ~Call();

  /// Answer frames of one shape, which is within the largest.
  /// @return The outputs in page-locked buffers that hold until the next run.
  /// @throws Error If the engine does not take them, or CUDA fails.
  Outputs run(Span<const FrameView> frames, const FramesShape& shape);

 private:
  void wait();
  void bind(const char* tensor, const Buffer& buffer);
  void reshape(const FramesShape& shape);
  void expect(const char* tensor, const nvinfer1::Dims& wanted) const;
  void infer();
  GraphExec record();

  std::unique_ptr<nvinfer1::IExecutionContext> context_;
  std::size_t classes_;
  bool capture_;
  Stream stream_;
  Buffer image_, scores_, label_, mask_, relevance_;
  GraphExec graph_;
  FramesShape shape_{};
  bool settled_ = false;
  bool idle_ = true;
};

}  // namespace lrp_edge::tensorrt

#endif

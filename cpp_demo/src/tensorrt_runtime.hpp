/// @file
/// TensorRT or TensorRT-RTX, whichever this library was built with: whether it runs an engine file, and the loaded
/// engine.
#ifndef LRP_EDGE_SRC_TENSORRT_RUNTIME_HPP
#define LRP_EDGE_SRC_TENSORRT_RUNTIME_HPP

#include "tensorrt_engine_file.hpp"

#include <NvInferRuntime.h>

#include <cstddef>
#include <memory>
#include <mutex>
#include <string>

namespace lrp_edge::tensorrt {

/// Make sure that the product that is loaded runs a file: another product or version does not read it.
/// @throws Error If it does not.
void check_product(const EngineFile& file);

/// Make sure that a GPU answers, and that the engine was built for it.
/// @throws Error If not.
void check_gpu(const EngineFile& file);

/// Keeps the last error for the exception, and the chatter off the terminal.
class Logger : public nvinfer1::ILogger {
 public:
  void log(Severity severity, const char* message) noexcept override;

  std::string last() const;

 private:
  mutable std::mutex mutex_;
  std::string last_ = "it gives no reason";
};

/// A deserialised engine with what it needs to live.
class LoadedEngine {
 public:
  /// @throws Error If the product cannot load the file, or its tensors are not the contract's.
  explicit LoadedEngine(const EngineFile& file);

  /// Make an execution context; null if there is not the memory for it.
  std::unique_ptr<nvinfer1::IExecutionContext> new_context(const Card& card) const;

  /// Bytes of GPU memory that a context takes besides its buffers.
  std::size_t context_bytes() const;

 private:
  void check_validity(const EngineFile& file) const;
  void check_tensors(const EngineFile& file) const;

  // The order matters: each is destroyed before what it was made of.
  std::unique_ptr<Logger> logger_;
  std::unique_ptr<nvinfer1::IRuntime> runtime_;
  std::unique_ptr<nvinfer1::ICudaEngine> engine_;
};

}  // namespace lrp_edge::tensorrt

#endif

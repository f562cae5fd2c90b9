/// TensorRT's and TensorRT-RTX's runtime with one engine: relevance is brightness, the mask what exceeds a limit, the
/// scores depend on the mean.

#include "gpu.hpp"

#include <NvInferRuntime.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <string>

namespace simulated_gpu {
namespace {

using nvinfer1::DataType;
using nvinfer1::Dims;
using nvinfer1::TensorIOMode;

constexpr float kLimit = 160;
constexpr double kGain = 0.05, kBias = 4;

const std::map<std::string, DataType>& types() {
  static const std::map<std::string, DataType> all{{"image", DataType::kUINT8},
                                                   {"scores", DataType::kFLOAT},
                                                   {"label", DataType::kINT32},
                                                   {"mask", DataType::kUINT8},
                                                   {"relevance", DataType::kFLOAT}};
  return all;
}

/// Counts itself; it has to be destroyed on the GPU that it is of.
class Object {
 public:
  Object() { ++gpu().objects; }
  Object(const Object&) = delete;
  Object& operator=(const Object&) = delete;
  ~Object() { gpu().objects -= gpu().current == 0 ? 1 : 0; }
};

struct Tensors {
  const std::uint8_t* image;
  float* scores;
  std::int32_t* label;
  std::uint8_t* mask;
  float* relevance;
};

void infer(const Tensors& tensors, const Dims& shape) {
  const std::int64_t pixels = shape.d[1] * shape.d[2], channels = shape.d[3];
  for (std::int64_t frame = 0; frame < shape.d[0]; ++frame) {
    double sum = 0;
    for (std::int64_t pixel = frame * pixels; pixel < (frame + 1) * pixels; ++pixel) {
      int brightness = 0;
      for (std::int64_t i = 0; i < channels; ++i) brightness += tensors.image[pixel * channels + i];
      const float mean = static_cast<float>(brightness) / static_cast<float>(channels);
      tensors.relevance[pixel] = mean;
      tensors.mask[pixel] = mean > kLimit ? 255 : 0;
      sum += static_cast<double>(brightness) / static_cast<double>(channels);
    }
    const double logit = kGain * sum / static_cast<double>(pixels) - kBias;
    const double stain = 1 / (1 + std::exp(-2 * logit));
    tensors.scores[frame * 2] = static_cast<float>(1 - stain);
    tensors.scores[frame * 2 + 1] = static_cast<float>(stain);
    tensors.label[frame] = logit > 0 ? 1 : 0;
  }
}

class Context : public nvinfer1::IExecutionContext {
 public:
  bool setTensorAddress(const char* name, void* address) noexcept override {
    addresses_[name] = address;
    return types().count(name) == 1;
  }

  bool setInputShape(const char* name, const Dims& shape) noexcept override {
    shape_ = shape;
    return name == std::string("image");
  }

  Dims getTensorShape(const char* name) const noexcept override {
    const std::string tensor = name;
    if (tensor == "mask" && !gpu().mask_shape.empty()) {
      Dims reported{static_cast<std::int32_t>(gpu().mask_shape.size()), {}};
      std::copy(gpu().mask_shape.begin(), gpu().mask_shape.end(), reported.d);
      return reported;
    }
    if (tensor == "scores") return {2, {shape_.d[0], 2}};
    return tensor == "label" ? Dims{1, {shape_.d[0]}} : Dims{3, {shape_.d[0], shape_.d[1], shape_.d[2]}};
  }

  bool enqueueV3(cudaStream_t stream) noexcept override {
    if (gpu().enter("enqueueV3") != cudaSuccess) return false;
    const auto recording = gpu().recordings.find(stream);
    if (recording != gpu().recordings.end() && !gpu().recordable) {
      recording->second.reset();
      return false;
    }
    const Tensors tensors{at<const std::uint8_t>("image"), at<float>("scores"), at<std::int32_t>("label"),
                          at<std::uint8_t>("mask"), at<float>("relevance")};
    gpu().put(stream, [tensors, shape = shape_] { infer(tensors, shape); });
    return true;
  }

 private:
  template <class T>
  T* at(const char* name) const {
    return static_cast<T*>(addresses_.at(name));
  }

  Object counted_;
  std::map<std::string, void*> addresses_;
  Dims shape_{};
};

#if defined(SIMULATED_RTX)

class Config : public nvinfer1::IRuntimeConfig {
 public:
  void setDynamicShapesKernelSpecializationStrategy(
      nvinfer1::DynamicShapesKernelSpecializationStrategy strategy) noexcept override {
    using Strategy = nvinfer1::DynamicShapesKernelSpecializationStrategy;
    kernels_ = strategy == Strategy::kEAGER ? "eager" : strategy == Strategy::kNONE ? "none" : "lazy";
  }
  bool setCudaGraphStrategy(nvinfer1::CudaGraphStrategy strategy) noexcept override {
    graphs_ = strategy == nvinfer1::CudaGraphStrategy::kDISABLED ? "disabled" : "whole";
    return true;
  }
  std::string text() const { return kernels_ + " " + graphs_; }

 private:
  Object counted_;
  std::string kernels_ = "unset", graphs_ = "unset";
};

#endif

class Engine : public nvinfer1::ICudaEngine {
 public:
  TensorIOMode getTensorIOMode(const char* name) const noexcept override {
    if (types().count(name) == 0) return TensorIOMode::kNONE;
    return name == std::string("image") ? TensorIOMode::kINPUT : TensorIOMode::kOUTPUT;
  }
  DataType getTensorDataType(const char* name) const noexcept override {
    return gpu().mistyped == name ? DataType::kINT64 : types().at(name);
  }
  std::int64_t getDeviceMemorySizeV2() const noexcept override {
    return static_cast<std::int64_t>(gpu().context_bytes);
  }
#if defined(SIMULATED_RTX)
  nvinfer1::IRuntimeConfig* createRuntimeConfig() noexcept override {
    return new Config;
  }
  nvinfer1::IExecutionContext* createExecutionContext(nvinfer1::IRuntimeConfig* config) noexcept override {
    gpu().config = static_cast<Config*>(config)->text();
    return gpu().contexts-- > 0 ? new Context : nullptr;
  }
#else
  nvinfer1::IExecutionContext* createExecutionContext() noexcept override {
    return gpu().contexts-- > 0 ? new Context : nullptr;
  }
#endif

 private:
  Object counted_;
};

class Runtime : public nvinfer1::IRuntime {
 public:
  explicit Runtime(nvinfer1::ILogger& logger) : logger_(logger) {}
  void setEngineHostCodeAllowed(bool) noexcept override {}
  nvinfer1::ICudaEngine* deserializeCudaEngine(const void*, std::size_t) noexcept override {
    logger_.log(nvinfer1::ILogger::Severity::kERROR, "it is\nnot an engine");
    logger_.log(nvinfer1::ILogger::Severity::kINFO, "chatter");
    return gpu().loads ? new Engine : nullptr;
  }
#if defined(SIMULATED_RTX)
  std::int64_t getEngineHeaderSize() const noexcept override {
    return 64;
  }
  nvinfer1::EngineValidity getEngineValidity(const void*, std::int64_t,
                                             std::uint64_t* diagnostics) const noexcept override {
    *diagnostics = gpu().invalid;
    return gpu().invalid == 0 ? nvinfer1::EngineValidity::kVALID : nvinfer1::EngineValidity::kINVALID;
  }
#endif

 private:
  Object counted_;
  nvinfer1::ILogger& logger_;
};

}  // namespace
}  // namespace simulated_gpu

void* createInferRuntime_INTERNAL(void* logger, std::int32_t) noexcept {
  return static_cast<nvinfer1::IRuntime*>(new simulated_gpu::Runtime(*static_cast<nvinfer1::ILogger*>(logger)));
}

std::int32_t getInferLibMajorVersion() noexcept {
  return 1;
}
std::int32_t getInferLibMinorVersion() noexcept {
  return 7;
}
std::int32_t getInferLibPatchVersion() noexcept {
  return 1;
}
std::int32_t getInferLibBuildVersion() noexcept {
  return 116;
}

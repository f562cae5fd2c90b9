#include "tensorrt_runtime.hpp"

#include "tensorrt_cuda.hpp"
#include "text.hpp"

#include <lrp_edge/error.hpp>

#include <NvInferVersion.h>

#include <cstdint>
#include <sstream>
#include <utility>

// TensorRT-RTX has the names of TensorRT, and a version count of its own.
#if !defined(TRT_MAJOR_RTX) && NV_TENSORRT_MAJOR * 100 + NV_TENSORRT_MINOR < 1003
#error "lrp_edge needs TensorRT 10.3 or later, or TensorRT-RTX"
#endif

namespace lrp_edge::tensorrt {
namespace {

#if defined(TRT_MAJOR_RTX)
constexpr char kProduct[] = "rtx";
#else
constexpr char kProduct[] = "tensorrt";
#endif

/// The version of the library that is loaded, which need not be that of the headers.
std::string loaded_version() {
  std::ostringstream text;
  text << getInferLibMajorVersion() << "." << getInferLibMinorVersion() << "." << getInferLibPatchVersion() << "."
       << getInferLibBuildVersion();
  return text.str();
}

const char* type_name(nvinfer1::DataType type) noexcept {
  switch (type) {
    case nvinfer1::DataType::kFLOAT:
      return "float32";
    case nvinfer1::DataType::kHALF:
      return "float16";
    case nvinfer1::DataType::kBF16:
      return "bfloat16";
    case nvinfer1::DataType::kINT8:
      return "int8";
    case nvinfer1::DataType::kINT32:
      return "int32";
    case nvinfer1::DataType::kINT64:
      return "int64";
    case nvinfer1::DataType::kUINT8:
      return "uint8";
    case nvinfer1::DataType::kBOOL:
      return "bool";
    default:
      return "of another type";
  }
}

#if defined(TRT_MAJOR_RTX)

/// What is wrong with an engine, by the bits that TensorRT-RTX sets.
std::string reasons(std::uint64_t diagnostics) {
  using Bit = nvinfer1::EngineInvalidityDiagnostics;
  constexpr std::pair<Bit, const char*> kMeanings[] = {
      {Bit::kVERSION_MISMATCH, "was built with another version of TensorRT-RTX"},
      {Bit::kUNSUPPORTED_CC, "was not built for this GPU"},
      {Bit::kOLD_CUDA_DRIVER, "needs a newer NVIDIA driver: update the driver"},
      {Bit::kOLD_CUDA_RUNTIME, "needs a newer CUDA runtime: update tensorrt-rtx"},
      {Bit::kINSUFFICIENT_GPU_MEMORY,
       "needs more GPU memory than is there: compile with a smaller --batch or --largest"},
      {Bit::kMALFORMED_ENGINE, "is not a TensorRT-RTX engine"},
      {Bit::kCUDA_ERROR, "could not be checked, since CUDA failed: check the NVIDIA driver"},
  };
  std::string text;
  for (const auto& [bit, meaning] : kMeanings) {
    if ((diagnostics & static_cast<std::uint64_t>(bit)) != 0) {
      text += (text.empty() ? "" : "; it ") + std::string(meaning);
    }
  }
  return text.empty() ? "cannot be run here, for no stated reason" : text;
}

#endif

}  // namespace

void check_product(const EngineFile& file) {
  const EngineFacts& facts = file.card().engine;
  if (facts.product != kProduct) {
    throw Error(file.name() + " is an engine for " + product_title(facts.product) +
                ", and this lrp_edge was built with " + product_title(kProduct) +
                "; build it with the other, or compile the engine again: lrp-edge compile MODEL.onnx --for " +
                kProduct);
  }
  const std::string loaded = loaded_version();
  if (!file.runs_with(loaded)) {
    throw Error(file.name() + " was built with " + product_title(kProduct) + " " + facts.version + ", and " + loaded +
                " is installed; compile again with this one: " + file.rebuild() + ", or install " + facts.version);
  }
}

void check_gpu(const EngineFile& file) {
  int count = 0;
  std::string reason = "cudaGetDeviceCount: 0";
  try {
    check(cudaGetDeviceCount(&count), "cudaGetDeviceCount");
  } catch (const CudaError& error) {
    count = 0;
    reason = error.what();
  }
  const EngineFacts& facts = file.card().engine;
  if (count == 0) {
    throw Error("no NVIDIA GPU answers (" + reason + "); run the .onnx on the CPU: lrp-edge run " +
                (facts.model.empty() ? "model.onnx" : facts.model) + " --provider cpu");
  }
  const std::string gpu = gpu_capability();
  if (!file.runs_on(gpu)) {
    throw Error(file.name() + " was built for " + joined(facts.gpus) + ", and this GPU is " + gpu +
                "; compile again: " + file.rebuild(gpu));
  }
}

void Logger::log(Severity severity, const char* message) noexcept {
  if (severity > Severity::kERROR) return;
  try {
    std::istringstream words(message);
    std::string line;
    for (std::string word; words >> word;) {
      line += (line.empty() ? "" : " ") + word;
    }
    const std::lock_guard<std::mutex> lock(mutex_);
    last_.swap(line);
  } catch (...) {
    // Without memory for the message, the error is reported without its reason.
  }
}

std::string Logger::last() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return last_;
}

LoadedEngine::LoadedEngine(const EngineFile& file)
    : logger_(std::make_unique<Logger>()), runtime_(nvinfer1::createInferRuntime(*logger_)) {
  if (runtime_ == nullptr) {
    throw Error(std::string(product_title(kProduct)) + " cannot be loaded: " + logger_->last() +
                "; check the NVIDIA driver");
  }
  // An engine that newer versions may load brings code for the host, and the file is the one that was built.
  runtime_->setEngineHostCodeAllowed(file.has_option("--version-compatible"));
  check_validity(file);
  engine_.reset(runtime_->deserializeCudaEngine(file.data().data(), file.data().size()));
  if (engine_ == nullptr) {
    throw Error(file.name() + " cannot be loaded: " + logger_->last() + "; compile again: " + file.rebuild());
  }
  check_tensors(file);
}

/// Ask TensorRT-RTX whether it can run an engine here, by the engine's header; TensorRT has no such question.
void LoadedEngine::check_validity([[maybe_unused]] const EngineFile& file) const {
#if defined(TRT_MAJOR_RTX)
  const std::int64_t header = runtime_->getEngineHeaderSize();
  const auto size = static_cast<std::int64_t>(file.data().size());
  std::uint64_t diagnostics = 0;
  const nvinfer1::EngineValidity verdict =
      runtime_->getEngineValidity(file.data().data(), size < header ? size : header, &diagnostics);
  if (verdict == nvinfer1::EngineValidity::kINVALID) {
    throw Error(file.name() + " " + reasons(diagnostics) + "; or compile again: " + file.rebuild());
  }
#endif
}

void LoadedEngine::check_tensors(const EngineFile& file) const {
  using Mode = nvinfer1::TensorIOMode;
  struct Tensor {
    Mode mode;
    const char* name;
    const char* type;
  };
  constexpr Tensor kContract[] = {{Mode::kINPUT, "image", "uint8"},
                                  {Mode::kOUTPUT, "scores", "float32"},
                                  {Mode::kOUTPUT, "label", "int32"},
                                  {Mode::kOUTPUT, "mask", "uint8"},
                                  {Mode::kOUTPUT, "relevance", "float32"}};
  for (const auto& [mode, name, type] : kContract) {
    const bool there = engine_->getTensorIOMode(name) == mode;
    const std::string found = there ? type_name(engine_->getTensorDataType(name)) : "missing";
    if (found != type) {
      throw Error(file.name() + ": " + (mode == Mode::kINPUT ? "input" : "output") + " '" + name + "' is " + found +
                  "; expected " + type + ": export again");
    }
  }
}

std::unique_ptr<nvinfer1::IExecutionContext> LoadedEngine::new_context([[maybe_unused]] const Card& card) const {
#if defined(TRT_MAJOR_RTX)
  // TensorRT-RTX compiles its kernels on the device. For frames of one size it is to do so before the first answer, and
  // to record CUDA graphs; for frames of any size it uses kernels that take all of them. Its own default, to compile
  // while it answers with others, would change the answers' last bits under way. An If cannot be recorded.
  using Kernels = nvinfer1::DynamicShapesKernelSpecializationStrategy;
  using Graphs = nvinfer1::CudaGraphStrategy;
  const std::unique_ptr<nvinfer1::IRuntimeConfig> config(engine_->createRuntimeConfig());
  if (config == nullptr) return nullptr;
  const auto& [low, usual, high] = *card.profile;
  const bool fixed = low[1] == high[1] && low[2] == high[2];
  config->setDynamicShapesKernelSpecializationStrategy(fixed ? Kernels::kEAGER : Kernels::kNONE);
  if (!config->setCudaGraphStrategy(card.gate ? Graphs::kDISABLED : Graphs::kWHOLE_GRAPH_CAPTURE)) {
    return nullptr;
  }
  return std::unique_ptr<nvinfer1::IExecutionContext>(engine_->createExecutionContext(config.get()));
#else
  return std::unique_ptr<nvinfer1::IExecutionContext>(engine_->createExecutionContext());
#endif
}

std::size_t LoadedEngine::context_bytes() const {
  return static_cast<std::size_t>(engine_->getDeviceMemorySizeV2());
}

}  // namespace lrp_edge::tensorrt

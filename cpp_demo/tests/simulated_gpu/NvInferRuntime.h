/// @file
/// As much of TensorRT's and TensorRT-RTX's interface as the backend uses, for a simulated GPU. That the real
/// headers have it too is for the compiler to say, where they are installed.
#ifndef SIMULATED_GPU_NV_INFER_RUNTIME_H
#define SIMULATED_GPU_NV_INFER_RUNTIME_H

#include <NvInferVersion.h>
#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

namespace nvinfer1 {

struct Dims {
  std::int32_t nbDims;
  std::int64_t d[8];
};

enum class DataType : std::int32_t { kFLOAT, kHALF, kINT8, kINT32, kBOOL, kUINT8, kFP8, kBF16, kINT64 };
enum class TensorIOMode : std::int32_t { kNONE, kINPUT, kOUTPUT };

class ILogger {
 public:
  enum class Severity : std::int32_t { kINTERNAL_ERROR, kERROR, kWARNING, kINFO, kVERBOSE };
  virtual ~ILogger() = default;
  virtual void log(Severity severity, const char* message) noexcept = 0;
};

class IExecutionContext {
 public:
  virtual ~IExecutionContext() noexcept = default;
  virtual bool setTensorAddress(const char* name, void* address) noexcept = 0;
  virtual bool setInputShape(const char* name, const Dims& shape) noexcept = 0;
  virtual Dims getTensorShape(const char* name) const noexcept = 0;
  virtual bool enqueueV3(cudaStream_t stream) noexcept = 0;
};

#if defined(SIMULATED_RTX)

enum class DynamicShapesKernelSpecializationStrategy : std::int32_t { kLAZY, kEAGER, kNONE };
enum class CudaGraphStrategy : std::int32_t { kDISABLED, kWHOLE_GRAPH_CAPTURE };
enum class EngineValidity : std::int32_t { kVALID, kSUBOPTIMAL, kINVALID };
enum class EngineInvalidityDiagnostics : std::uint64_t {
  kVERSION_MISMATCH = 1,
  kUNSUPPORTED_CC = 2,
  kOLD_CUDA_DRIVER = 4,
  kOLD_CUDA_RUNTIME = 8,
  kINSUFFICIENT_GPU_MEMORY = 16,
  kMALFORMED_ENGINE = 32,
  kCUDA_ERROR = 64
};

class IRuntimeConfig {
 public:
  virtual ~IRuntimeConfig() noexcept = default;
  virtual void setDynamicShapesKernelSpecializationStrategy(DynamicShapesKernelSpecializationStrategy) noexcept = 0;
  virtual bool setCudaGraphStrategy(CudaGraphStrategy) noexcept = 0;
};

#endif

class ICudaEngine {
 public:
  virtual ~ICudaEngine() noexcept = default;
  virtual TensorIOMode getTensorIOMode(const char* name) const noexcept = 0;
  virtual DataType getTensorDataType(const char* name) const noexcept = 0;
  virtual std::int64_t getDeviceMemorySizeV2() const noexcept = 0;
#if defined(SIMULATED_RTX)
  virtual IRuntimeConfig* createRuntimeConfig() noexcept = 0;
  virtual IExecutionContext* createExecutionContext(IRuntimeConfig* config) noexcept = 0;
#else
  virtual IExecutionContext* createExecutionContext() noexcept = 0;
#endif
};

class IRuntime {
 public:
  virtual ~IRuntime() noexcept = default;
  virtual void setEngineHostCodeAllowed(bool allowed) noexcept = 0;
  virtual ICudaEngine* deserializeCudaEngine(const void* data, std::size_t size) noexcept = 0;
#if defined(SIMULATED_RTX)
  virtual std::int64_t getEngineHeaderSize() const noexcept = 0;
  virtual EngineValidity getEngineValidity(const void* data, std::int64_t size,
                                           std::uint64_t* diagnostics) const noexcept = 0;
#endif
};

}  // namespace nvinfer1

extern "C" {
void* createInferRuntime_INTERNAL(void* logger, std::int32_t version) noexcept;
std::int32_t getInferLibMajorVersion() noexcept;
std::int32_t getInferLibMinorVersion() noexcept;
std::int32_t getInferLibPatchVersion() noexcept;
std::int32_t getInferLibBuildVersion() noexcept;
}

namespace nvinfer1 {

inline IRuntime* createInferRuntime(ILogger& logger) noexcept {
  return static_cast<IRuntime*>(createInferRuntime_INTERNAL(&logger, NV_TENSORRT_MAJOR));
}

}  // namespace nvinfer1

#endif

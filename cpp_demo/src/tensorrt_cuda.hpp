/// @file
/// CUDA's runtime: every return code checked, every handle owned.
#ifndef LRP_EDGE_SRC_TENSORRT_CUDA_HPP
#define LRP_EDGE_SRC_TENSORRT_CUDA_HPP

#include <lrp_edge/error.hpp>

#include <cuda_runtime_api.h>

#include <cstddef>
#include <memory>
#include <string>
#include <type_traits>

namespace lrp_edge::tensorrt {

/// A call of CUDA failed.
class CudaError : public Error {
 public:
  CudaError(const char* call, cudaError_t code);

  cudaError_t code() const noexcept { return code_; }

 private:
  cudaError_t code_;
};

/// Go on only if a call succeeded.
/// @param call Its name, for the error.
/// @throws CudaError If it did not.
void check(cudaError_t code, const char* call);

/// Releases handles; a failure does not matter there, after an error.
struct CudaRelease {
  void operator()(cudaStream_t stream) const noexcept { static_cast<void>(cudaStreamDestroy(stream)); }
  void operator()(cudaGraph_t graph) const noexcept { static_cast<void>(cudaGraphDestroy(graph)); }
  void operator()(cudaGraphExec_t graph) const noexcept { static_cast<void>(cudaGraphExecDestroy(graph)); }
};

template <class Handle>
using CudaHandle = std::unique_ptr<std::remove_pointer_t<Handle>, CudaRelease>;

using Stream = CudaHandle<cudaStream_t>;
using Graph = CudaHandle<cudaGraph_t>;
using GraphExec = CudaHandle<cudaGraphExec_t>;

/// Makes the first GPU the calling thread's, as long as this lives: the program may use others on its threads.
class OnFirstGpu {
 public:
  OnFirstGpu() noexcept;
  OnFirstGpu(const OnFirstGpu&) = delete;
  OnFirstGpu& operator=(const OnFirstGpu&) = delete;
  ~OnFirstGpu();

 private:
  int before_ = 0;
};

/// A stream that does not wait for the default one.
Stream new_stream();

/// Bytes in the GPU's memory, and as many page-locked ones in the host's, which CUDA copies without a detour.
class Buffer {
 public:
  /// @throws CudaError If there is not the memory for it.
  explicit Buffer(std::size_t size);

  void* device() const noexcept { return device_.get(); }

  template <class T>
  T* host() const noexcept {
    return static_cast<T*>(host_.get());
  }

  /// Start the copy of the first bytes to the GPU.
  void upload(std::size_t size, cudaStream_t stream) const;

  /// Start the copy of the first bytes from the GPU.
  void download(std::size_t size, cudaStream_t stream) const;

 private:
  struct FreeDevice {
    void operator()(void* memory) const noexcept { static_cast<void>(cudaFree(memory)); }
  };
  struct FreeHost {
    void operator()(void* memory) const noexcept { static_cast<void>(cudaFreeHost(memory)); }
  };

  std::unique_ptr<void, FreeDevice> device_;
  std::unique_ptr<void, FreeHost> host_;
};

/// The GPU's free and total bytes.
struct GpuMemory {
  std::size_t free = 0;
  std::size_t total = 0;
};

GpuMemory gpu_memory();

/// Compute capability of the first GPU that CUDA shows (`CUDA_VISIBLE_DEVICES` chooses), e.g. "sm86".
std::string gpu_capability();

}  // namespace lrp_edge::tensorrt

#endif

#include "tensorrt_cuda.hpp"

namespace lrp_edge::tensorrt {
namespace {

constexpr int kDevice = 0;

int attribute(cudaDeviceAttr which) {
  int value = 0;
  check(cudaDeviceGetAttribute(&value, which, kDevice), "cudaDeviceGetAttribute");
  return value;
}

}  // namespace

CudaError::CudaError(const char* call, cudaError_t code)
    : Error(std::string(call) + ": " + cudaGetErrorName(code) + " (" + cudaGetErrorString(code) + ")"), code_(code) {}

void check(cudaError_t code, const char* call) {
  if (code != cudaSuccess) throw CudaError(call, code);
}

// What fails here fails again in the calls in between, where it is reported.
OnFirstGpu::OnFirstGpu() noexcept {
  static_cast<void>(cudaGetDevice(&before_));
  if (before_ != kDevice) static_cast<void>(cudaSetDevice(kDevice));
}

OnFirstGpu::~OnFirstGpu() {
  if (before_ != kDevice) static_cast<void>(cudaSetDevice(before_));
}

Stream new_stream() {
  cudaStream_t stream = nullptr;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
  return Stream(stream);
}

Buffer::Buffer(std::size_t size) {
  void* memory = nullptr;
  check(cudaMalloc(&memory, size), "cudaMalloc");
  device_.reset(memory);
  check(cudaMallocHost(&memory, size), "cudaMallocHost");
  host_.reset(memory);
}

void Buffer::upload(std::size_t size, cudaStream_t stream) const {
  check(cudaMemcpyAsync(device(), host<void>(), size, cudaMemcpyHostToDevice, stream), "cudaMemcpyAsync");
}

void Buffer::download(std::size_t size, cudaStream_t stream) const {
  check(cudaMemcpyAsync(host<void>(), device(), size, cudaMemcpyDeviceToHost, stream), "cudaMemcpyAsync");
}

GpuMemory gpu_memory() {
  GpuMemory memory;
  check(cudaMemGetInfo(&memory.free, &memory.total), "cudaMemGetInfo");
  return memory;
}

std::string gpu_capability() {
  return "sm" + std::to_string(attribute(cudaDevAttrComputeCapabilityMajor)) +
         std::to_string(attribute(cudaDevAttrComputeCapabilityMinor));
}

}  // namespace lrp_edge::tensorrt

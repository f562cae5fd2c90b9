/// CUDA's runtime as far as the backend calls it.

#include "gpu.hpp"

#include <cstring>
#include <set>
#include <utility>

using simulated_gpu::gpu;
using simulated_gpu::Work;

namespace simulated_gpu {

Gpu& gpu() {
  static Gpu only;
  return only;
}

cudaError_t Gpu::enter(const std::string& call) {
  ++calls[call];
  static const std::set<std::string> anywhere{"cudaGetDevice", "cudaSetDevice", "cudaGetDeviceCount",
                                              "cudaGetLastError"};
  if (current != 0 && anywhere.count(call) == 0) return cudaErrorInvalidDevice;
  const auto fault = faults.find(call);
  return fault == faults.end() || fault->second.well_before-- > 0 ? cudaSuccess : fault->second.code;
}

void Gpu::put(const void* stream, std::function<void()> work) {
  const auto recording = recordings.find(stream);
  if (recording == recordings.end()) {
    queues.at(stream)->push_back(std::move(work));
  } else if (recording->second) {
    recording->second->push_back(std::move(work));
  }
}

namespace {

constexpr unsigned char kGarbage = 0xAA;
constexpr std::size_t kTotal = std::size_t{2} << 30;

cudaError_t allocate(const char* call, void** address, std::size_t size) {
  const cudaError_t code = gpu().enter(call);
  if (code != cudaSuccess) return code;
  std::vector<unsigned char> block(size, kGarbage);
  *address = block.data();
  gpu().memory.emplace(*address, std::move(block));
  return code;
}

cudaError_t release(const char* call, const void* address) {
  const cudaError_t code = gpu().enter(call);
  if (code != cudaSuccess) return code;
  return gpu().memory.erase(address) == 1 ? cudaSuccess : cudaErrorInvalidValue;
}

template <class Handle>
void give(Handle* handle, Work work) {
  auto queue = std::make_unique<Work>(std::move(work));
  *handle = reinterpret_cast<Handle>(queue.get());
  gpu().queues.emplace(queue.get(), std::move(queue));
}

cudaError_t drop(const char* call, const void* handle) {
  const cudaError_t code = gpu().enter(call);
  if (code != cudaSuccess) return code;
  return gpu().queues.erase(handle) == 1 ? cudaSuccess : cudaErrorInvalidResourceHandle;
}

}  // namespace
}  // namespace simulated_gpu

using namespace simulated_gpu;

const char* cudaGetErrorName(cudaError_t code) {
  switch (code) {
    case cudaErrorMemoryAllocation:
      return "cudaErrorMemoryAllocation";
    case cudaErrorNoDevice:
      return "cudaErrorNoDevice";
    default:
      return "cudaErrorStreamCaptureInvalidated";
  }
}

const char* cudaGetErrorString(cudaError_t) {
  return "in words";
}

cudaError_t cudaGetLastError() {
  return gpu().enter("cudaGetLastError");
}

cudaError_t cudaGetDeviceCount(int* count) {
  *count = gpu().devices;
  return gpu().enter("cudaGetDeviceCount");
}

cudaError_t cudaGetDevice(int* device) {
  *device = gpu().current;
  return gpu().enter("cudaGetDevice");
}

cudaError_t cudaSetDevice(int device) {
  gpu().current = device;
  return gpu().enter("cudaSetDevice");
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  *value = attribute == cudaDevAttrComputeCapabilityMajor ? gpu().major : gpu().minor;
  return gpu().enter("cudaDeviceGetAttribute");
}

cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total) {
  *total = kTotal;
  *free = kTotal / 2;
  for (const auto& [address, block] : gpu().memory) *free -= block.size();
  return gpu().enter("cudaMemGetInfo");
}

cudaError_t cudaMalloc(void** address, std::size_t size) {
  return allocate("cudaMalloc", address, size);
}

cudaError_t cudaMallocHost(void** address, std::size_t size) {
  return allocate("cudaMallocHost", address, size);
}

cudaError_t cudaFree(void* address) {
  return release("cudaFree", address);
}

cudaError_t cudaFreeHost(void* address) {
  return release("cudaFreeHost", address);
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned int) {
  const cudaError_t code = gpu().enter("cudaStreamCreateWithFlags");
  if (code == cudaSuccess) give(stream, {});
  return code;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  // What is under way would use memory that is released next; it counts as left behind.
  if (!gpu().queues.at(stream)->empty()) ++gpu().objects;
  return drop("cudaStreamDestroy", stream);
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  const cudaError_t code = gpu().enter("cudaStreamSynchronize");
  if (code != cudaSuccess) return code;
  const Work work = std::exchange(*gpu().queues.at(stream), {});
  for (const auto& each : work) each();
  return code;
}

cudaError_t cudaMemcpyAsync(void* target, const void* source, std::size_t size, cudaMemcpyKind, cudaStream_t stream) {
  const cudaError_t code = gpu().enter("cudaMemcpyAsync");
  if (code != cudaSuccess) return code;
  if (size > gpu().memory.at(target).size() || size > gpu().memory.at(source).size()) return cudaErrorInvalidValue;
  gpu().put(stream, [=] { std::memcpy(target, source, size); });
  return code;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  const cudaError_t code = gpu().enter("cudaStreamBeginCapture");
  if (code == cudaSuccess) gpu().recordings[stream] = Work{};
  return code;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  const cudaError_t code = gpu().enter("cudaStreamEndCapture");
  const std::optional<Work> recorded = std::move(gpu().recordings.at(stream));
  gpu().recordings.erase(stream);
  *graph = nullptr;
  if (!recorded) return cudaErrorStreamCaptureInvalidated;
  if (code == cudaSuccess) give(graph, *recorded);
  return code;
}

cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t* made, cudaGraph_t graph, unsigned long long) {
  const cudaError_t code = gpu().enter("cudaGraphInstantiateWithFlags");
  if (code == cudaSuccess) give(made, *gpu().queues.at(graph));
  return code;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream) {
  const cudaError_t code = gpu().enter("cudaGraphLaunch");
  if (code != cudaSuccess) return code;
  for (const auto& each : *gpu().queues.at(graph)) gpu().put(stream, each);
  return code;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  return drop("cudaGraphDestroy", graph);
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph) {
  return drop("cudaGraphExecDestroy", graph);
}

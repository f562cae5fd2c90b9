/// @file
/// A simulated GPU: CUDA's memory, streams and graphs on the CPU, run late. Work that is put on a stream is done
/// when the stream is waited for, as on a GPU, so a backend that reads too early answers wrongly here too. Everything
/// that is allocated is counted.
#ifndef SIMULATED_GPU_GPU_HPP
#define SIMULATED_GPU_GPU_HPP

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace simulated_gpu {

using Work = std::vector<std::function<void()>>;

/// A call that is to fail.
struct Fault {
  int well_before = 0;  ///< Calls that go well first.
  cudaError_t code = cudaErrorUnknown;
};

/// The one GPU that can be worked on.
struct Gpu {
  int devices = 1;
  int current = 0;  ///< The thread's; work on another one fails.
  int major = 8;
  int minor = 6;
  std::size_t context_bytes = 3 * 1024 * 1024;
  bool recordable = true;                ///< Whether inference can be recorded as a graph.
  int contexts = 9;                      ///< Execution contexts that can be made.
  bool loads = true;                     ///< Whether an engine can be deserialised.
  std::size_t invalid = 0;               ///< TensorRT-RTX's reasons why an engine is not valid.
  std::vector<std::int64_t> mask_shape;  ///< That the engine says it gives, before a call; empty for the right one.
  std::string mistyped;                  ///< Tensor that the engine has as int64.
  std::string config;                    ///< How TensorRT-RTX's context was configured.
  std::map<std::string, Fault> faults;
  std::map<std::string, int> calls;

  std::map<const void*, std::vector<unsigned char>> memory;
  std::map<const void*, std::unique_ptr<Work>> queues;    ///< Streams, graphs, and graphs that can be launched.
  std::map<const void*, std::optional<Work>> recordings;  ///< By stream; none for one that was invalidated.
  int objects = 0;                                        ///< TensorRT's.

  std::size_t live() const { return memory.size() + queues.size() + static_cast<std::size_t>(objects); }

  /// Count a call, and say whether it fails.
  cudaError_t enter(const std::string& call);

  /// Put work on a stream, or into what is being recorded of it.
  void put(const void* stream, std::function<void()> work);
};

Gpu& gpu();

}  // namespace simulated_gpu

#endif

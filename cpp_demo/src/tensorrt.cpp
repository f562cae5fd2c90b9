/// Engine files of TensorRT-RTX and TensorRT, on the GPU.

#include "backend.hpp"
#include "tensorrt_call.hpp"
#include "tensorrt_cuda.hpp"
#include "tensorrt_engine_file.hpp"
#include "tensorrt_runtime.hpp"
#include "text.hpp"

#include <lrp_edge/error.hpp>

#include <memory>
#include <optional>
#include <string>
#include <utility>

namespace lrp_edge {
namespace tensorrt {
namespace {

constexpr std::size_t kMiB = std::size_t{1} << 20;

class TensorRtBackend : public Backend {
 public:
  explicit TensorRtBackend(EngineFile file)
      : file_(std::move(file)), provider_(file_.card().engine.product), engine_(std::in_place, file_) {
    call_ = new_call();
    file_.drop_data();
  }
  ~TensorRtBackend() override {
    const OnFirstGpu gpu;
    call_.reset();
    engine_.reset();
  }

  const Card& card() const noexcept override { return file_.card(); }
  const std::string& provider() const noexcept override { return provider_; }

  Outputs run(Span<const FrameView> frames) override {
    const FrameView& first = frames[0];
    const FramesShape shape{frames.size(), first.height, first.width, first.channels};
    file_.check_frames(shape);
    const OnFirstGpu gpu;
    try {
      return call_->run(frames, shape);
    } catch (const Error& error) {
      throw Error(file_.name() + ": " + error.what());
    }
  }

 private:
  std::unique_ptr<Call> new_call() const {
    auto context = engine_->new_context(card());
    if (context == nullptr) throw too_large();
    // TensorRT-RTX records graphs itself, once the kernels of a shape are there; an If cannot be recorded.
    const bool capture = provider_ == "tensorrt" && !card().gate;
    try {
      return std::make_unique<Call>(std::move(context), file_.largest(), card().classes.size(), capture);
    } catch (const CudaError& error) {
      if (error.code() == cudaErrorMemoryAllocation) throw too_large();
      throw Error(file_.name() + ": " + error.what() + "; check the NVIDIA driver");
    }
  }

  Error too_large() const {
    const FramesShape largest = file_.largest();
    const std::size_t wanted = BufferSizes(largest, card().classes.size()).total() + engine_->context_bytes();
    const GpuMemory memory = gpu_memory();
    return Error(file_.name() + " wants " + std::to_string(wanted / kMiB) +
                 " MiB of GPU memory for 1 calls of frames " + shape_text({largest.begin(), largest.end()}) + ", and " +
                 std::to_string(memory.free / kMiB) + " of " + std::to_string(memory.total / kMiB) +
                 " MiB are free; compile with a smaller --batch or --largest, or free the GPU");
  }

  EngineFile file_;
  std::string provider_;
  std::optional<LoadedEngine> engine_;
  std::unique_ptr<Call> call_;
};

}  // namespace
}  // namespace tensorrt

std::unique_ptr<Backend> open_tensorrt(const std::filesystem::path& path, const Options& options) {
  tensorrt::EngineFile file = tensorrt::EngineFile::read(path);
  const std::string& product = file.card().engine.product;
  if (!options.provider.empty() && options.provider != product) {
    throw Error(file.name() + " is an engine for " + product + ", not for " + options.provider +
                "; leave out the provider");
  }
  tensorrt::check_product(file);
  const tensorrt::OnFirstGpu gpu;
  tensorrt::check_gpu(file);
  return std::make_unique<tensorrt::TensorRtBackend>(std::move(file));
}

}  // namespace lrp_edge

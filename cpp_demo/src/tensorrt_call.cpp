#include "tensorrt_call.hpp"

#include "frames.hpp"
#include "text.hpp"

#include <lrp_edge/error.hpp>

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <sstream>
#include <string>
#include <utility>

namespace lrp_edge::tensorrt {
namespace {

std::size_t product(std::initializer_list<std::size_t> factors) {
  std::size_t value = 1;
  for (const std::size_t factor : factors) {
    if (factor != 0 && value > std::numeric_limits<std::size_t>::max() / factor) {
      throw Error("the profile's largest frames take more bytes than there are addresses; compile it again");
    }
    value *= factor;
  }
  return value;
}

nvinfer1::Dims dims(std::initializer_list<std::size_t> sizes) {
  nvinfer1::Dims made{};
  for (const std::size_t size : sizes) {
    made.d[made.nbDims++] = static_cast<std::int64_t>(size);
  }
  return made;
}

std::string to_string(const nvinfer1::Dims& shape) {
  std::ostringstream text;
  for (int axis = 0; axis < shape.nbDims; ++axis) {
    text << (axis == 0 ? "[" : ", ") << shape.d[axis];
  }
  return text.str() + "]";
}

/// Whether two shapes are the same, as far as one is known: behind an If, TensorRT may not know it before the call.
bool agree(const nvinfer1::Dims& found, const nvinfer1::Dims& wanted) {
  if (found.nbDims != wanted.nbDims) return false;
  return std::equal(found.d, found.d + found.nbDims, wanted.d,
                    [](std::int64_t extent, std::int64_t expected) { return extent == -1 || extent == expected; });
}

}  // namespace

BufferSizes::BufferSizes(const FramesShape& shape, std::size_t classes) {
  const auto& [frames, height, width, channels] = shape;
  image = product({frames, height, width, channels});
  scores = product({frames, classes, sizeof(float)});
  label = product({frames, sizeof(std::int32_t)});
  mask = product({frames, height, width});
  relevance = product({frames, height, width, sizeof(float)});
}

Call::Call(std::unique_ptr<nvinfer1::IExecutionContext> context, const FramesShape& largest, std::size_t classes,
           bool capture)
    : context_(std::move(context)),
      classes_(classes),
      capture_(capture),
      stream_(new_stream()),
      image_(BufferSizes(largest, classes).image),
      scores_(BufferSizes(largest, classes).scores),
      label_(BufferSizes(largest, classes).label),
      mask_(BufferSizes(largest, classes).mask),
      relevance_(BufferSizes(largest, classes).relevance) {
  bind("image", image_);
  bind("scores", scores_);
  bind("label", label_);
  bind("mask", mask_);
  bind("relevance", relevance_);
}

Call::~Call() {
  // What is under way uses the buffers that are released next.
  static_cast<void>(cudaStreamSynchronize(stream_.get()));
}

void Call::bind(const char* tensor, const Buffer& buffer) {
  if (!context_->setTensorAddress(tensor, buffer.device())) {
    throw Error(std::string("the engine has no tensor '") + tensor + "'; compile it again");
  }
}

Outputs Call::run(Span<const FrameView> frames, const FramesShape& shape) {
  // A run that failed half-way may have left copies under way.
  wait();
  if (shape != shape_) reshape(shape);
  const BufferSizes sizes(shape, classes_);
  pack(frames, image_.host<std::uint8_t>());
  idle_ = false;
  image_.upload(sizes.image, stream_.get());
  infer();
  scores_.download(sizes.scores, stream_.get());
  label_.download(sizes.label, stream_.get());
  mask_.download(sizes.mask, stream_.get());
  relevance_.download(sizes.relevance, stream_.get());
  wait();
  return {scores_.host<float>(), label_.host<std::int32_t>(), mask_.host<std::uint8_t>(), relevance_.host<float>()};
}

void Call::wait() {
  if (!idle_) {
    check(cudaStreamSynchronize(stream_.get()), "cudaStreamSynchronize");
    idle_ = true;
  }
}

/// Set the frames' shape in the context; a graph recorded for the previous shape is discarded.
void Call::reshape(const FramesShape& shape) {
  graph_.reset();
  settled_ = false;
  shape_ = {};
  const auto& [frames, height, width, channels] = shape;
  if (!context_->setInputShape("image", dims({frames, height, width, channels}))) {
    throw Error("the engine does not take frames " + shape_text({shape.begin(), shape.end()}));
  }
  expect("scores", dims({frames, classes_}));
  expect("label", dims({frames}));
  expect("mask", dims({frames, height, width}));
  expect("relevance", dims({frames, height, width}));
  shape_ = shape;
}

void Call::expect(const char* tensor, const nvinfer1::Dims& wanted) const {
  const nvinfer1::Dims found = context_->getTensorShape(tensor);
  if (!agree(found, wanted)) {
    throw Error(std::string("the engine gives ") + tensor + " as " + to_string(found) + "; expected " +
                to_string(wanted) + ": compile it again");
  }
}

void Call::infer() {
  if (graph_ == nullptr && capture_ && settled_) {
    graph_ = record();
    capture_ = graph_ != nullptr;
  }
  if (graph_ != nullptr) {
    check(cudaGraphLaunch(graph_.get(), stream_.get()), "cudaGraphLaunch");
  } else if (!context_->enqueueV3(stream_.get())) {
    throw Error("the engine cannot be run on frames " + shape_text({shape_.begin(), shape_.end()}));
  }
  settled_ = true;
}

/// Record one inference without running it; null if it cannot be recorded.
GraphExec Call::record() {
  cudaGraphExec_t made = nullptr;
  if (cudaStreamBeginCapture(stream_.get(), cudaStreamCaptureModeThreadLocal) == cudaSuccess) {
    const bool enqueued = context_->enqueueV3(stream_.get());
    cudaGraph_t recorded = nullptr;
    const bool ended = cudaStreamEndCapture(stream_.get(), &recorded) == cudaSuccess;
    const Graph graph(recorded);
    if (enqueued && ended && cudaGraphInstantiateWithFlags(&made, graph.get(), 0) == cudaSuccess) {
      return GraphExec(made);
    }
  }
  // Else the next call that asks for the last error would see this one's.
  static_cast<void>(cudaGetLastError());
  return {};
}

}  // namespace lrp_edge::tensorrt

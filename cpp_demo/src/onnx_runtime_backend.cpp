#include "backend.hpp"
#include "files.hpp"
#include "frames.hpp"
#include "onnx_runtime_session.hpp"
#include "onnx_runtime_tensors.hpp"
#include "text.hpp"

#include <lrp_edge/error.hpp>

#include <onnxruntime_cxx_api.h>

#include <utility>
#include <vector>

namespace lrp_edge {
namespace {

class OnnxRuntimeBackend final : public Backend {
 public:
  OnnxRuntimeBackend(std::string path, OpenSession opened, Card card)
      : path_(std::move(path)),
        opened_(std::move(opened)),
        card_(std::move(card)),
        inputs_(card_.input.channels()),
        outputs_(card_.classes.size()) {}

  const Card& card() const noexcept override { return card_; }

  const std::string& provider() const noexcept override { return opened_.provider; }

  Outputs run(Span<const FrameView> frames) override {
    const BatchShape shape{static_cast<std::int64_t>(frames.size()), static_cast<std::int64_t>(frames[0].height),
                           static_cast<std::int64_t>(frames[0].width)};
    try {
      const Ort::Value& input = inputs_.at(without_gaps(frames), shape);
      OutputTensors::Values& outputs = outputs_.of(shape);
      const char* const name = "image";
      opened_.session.Run(run_options_, &name, &input, 1, OutputTensors::kNames.data(), outputs.data(), outputs.size());
    } catch (const Ort::Exception& error) {
      throw Error(path_ + " failed on frames " + batch_text(frames) + ": " + reason(error));
    }
    return outputs_.view();
  }

 private:
  /// The frames as one array: where they are, if they lie so, else in a copy.
  const std::uint8_t* without_gaps(Span<const FrameView> frames) {
    if (are_adjacent(frames)) return frames[0].data;
    const std::size_t bytes = frames.size() * frame_bytes(frames[0]);
    if (packed_.size() < bytes) packed_.resize(bytes);
    pack(frames, packed_.data());
    return packed_.data();
  }

  std::string path_;
  OpenSession opened_;
  Card card_;
  Ort::RunOptions run_options_;
  InputTensors inputs_;
  OutputTensors outputs_;
  std::vector<std::uint8_t> packed_;
};

}  // namespace

std::unique_ptr<Backend> open_onnx_runtime(const std::filesystem::path& path, const Options& options) {
  try {
    OpenSession opened = open_session(path, options);
    Card card = read_card(opened.session, path);
    check_tensors(opened.session, card, path);
    return std::make_unique<OnnxRuntimeBackend>(path_text(path), std::move(opened), std::move(card));
  } catch (const Ort::Exception& error) {
    throw Error(path_text(path) + " is not an ONNX file that can be run: " + reason(error));
  }
}

}  // namespace lrp_edge

#include "backend.hpp"
#include "files.hpp"
#include "frames.hpp"
#include "regions.hpp"
#include "text.hpp"

#include <lrp_edge/error.hpp>
#include <lrp_edge/segmenter.hpp>

#include <chrono>
#include <new>
#include <utility>
#include <vector>

namespace lrp_edge {
namespace {

using Clock = std::chrono::steady_clock;

std::unique_ptr<Backend> open(const std::filesystem::path& path, const Options& options) {
  if (options.threads < 0) {
    throw Error("threads is " + std::to_string(options.threads) +
                "; expected 1 or more, or 0 for as many as there are cores");
  }
  return path.extension() == ".engine" ? open_tensorrt(path, options) : open_onnx_runtime(path, options);
}

}  // namespace

class Segmenter::Impl {
 public:
  Impl(const std::filesystem::path& path, const Options& options)
      : path_(normal_path(path)), options_(options), backend_(open(path_, options)) {
    for (std::size_t label = 0; label < card().classes.size(); ++label) defects_.push_back(card().is_defect(label));
  }

  const Card& card() const noexcept { return backend_->card(); }

  const std::string& provider() const noexcept { return backend_->provider(); }

  Span<const Result> run(Span<const FrameView> frames) {
    check_frames(frames, card());
    if (frames.empty()) return {};
    try {
      reserve(frames);
      const auto start = Clock::now();
      const Outputs outputs = backend_->run(frames);
      const std::chrono::duration<double, std::milli> taken = Clock::now() - start;
      for (std::size_t i = 0; i < frames.size(); ++i) {
        results_[i] = result(outputs, frames[i], i);
        results_[i].milliseconds = taken.count() / static_cast<double>(frames.size());
      }
      if (options_.regions) find_regions({results_.data(), frames.size()});
    } catch (const std::bad_alloc&) {
      throw Error(path_text(path_) + ": no memory for frames " + batch_text(frames) + "; make them fewer or smaller");
    }
    return {results_.data(), frames.size()};
  }

 private:
  void reserve(Span<const FrameView> frames) {
    if (results_.size() < frames.size()) {
      ends_.resize(frames.size());
      results_.resize(frames.size());
    }
    if (!options_.regions) return;
    finder_.reserve(frames[0].height);
    regions_.reserve(kUsualRegions);
  }

  Result result(const Outputs& outputs, const FrameView& frame, std::size_t index) const {
    const std::size_t classes = card().classes.size(), pixels = frame.height * frame.width;
    const auto label = static_cast<std::size_t>(outputs.label[index]);
    if (label >= classes) {
      throw Error(path_text(path_) + " gave label " + std::to_string(outputs.label[index]) + "; its card has " +
                  std::to_string(classes) + " classes: export again");
    }
    Result result;
    result.label = outputs.label[index];
    result.name = card().classes[label];
    result.defect = defects_[label];
    result.scores = {outputs.scores + index * classes, classes};
    result.mask = {outputs.mask + index * pixels, frame.height, frame.width};
    result.relevance = {outputs.relevance + index * pixels, frame.height, frame.width};
    return result;
  }

  /// Regions of all frames lie behind each other; they are pointed to only when the list does not grow any more.
  void find_regions(Span<Result> results) {
    regions_.clear();
    for (std::size_t i = 0; i < results.size(); ++i) {
      finder_.find(results[i].mask, results[i].relevance, options_.min_area, regions_);
      ends_[i] = regions_.size();
    }
    std::size_t begin = 0;
    for (std::size_t i = 0; i < results.size(); ++i) {
      results[i].regions = {regions_.data() + begin, ends_[i] - begin};
      begin = ends_[i];
    }
  }

  std::filesystem::path path_;
  Options options_;
  std::unique_ptr<Backend> backend_;
  std::vector<bool> defects_;
  RegionFinder finder_;
  std::vector<Result> results_;
  std::vector<Region> regions_;
  std::vector<std::size_t> ends_;
};

Segmenter::Segmenter(const std::filesystem::path& path, const Options& options)
    : impl_(std::make_unique<Impl>(path, options)) {}

Segmenter::Segmenter(Segmenter&&) noexcept = default;

Segmenter& Segmenter::operator=(Segmenter&&) noexcept = default;

Segmenter::~Segmenter() = default;

const Card& Segmenter::card() const noexcept {
  return impl_->card();
}

const std::string& Segmenter::provider() const noexcept {
  return impl_->provider();
}

const Result& Segmenter::run(const FrameView& frame) {
  return impl_->run({&frame, 1})[0];
}

Span<const Result> Segmenter::run(Span<const FrameView> frames) {
  return impl_->run(frames);
}

}  // namespace lrp_edge

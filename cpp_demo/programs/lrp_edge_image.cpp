/// Images in, overlays and lines of JSON out.

#include "common/images.hpp"
#include "common/json_lines.hpp"
#include "common/program.hpp"
#include "common/recorder.hpp"

#include <lrp_edge/lrp_edge.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <iostream>
#include <string>
#include <utility>
#include <vector>

namespace {

using namespace programs;

struct Settings {
  ModelOptions model;
  RecorderOptions recorder;
  std::vector<std::string> images;
  std::size_t batch = 1;
  Scale mm_per_px = 0;
};

/// An image waiting for its batch.
struct Waiting {
  FrameInfo info;
  cv::Mat image;
};

/// Runs images in batches of one size, and writes the results.
class Images {
 public:
  Images(const Settings& settings, lrp_edge::Segmenter& segmenter)
      : segmenter_(segmenter),
        batch_(std::min(settings.batch, segmenter.card().largest_batch())),
        mm_per_px_(settings.mm_per_px),
        recorder_(settings.recorder, segmenter.card().input.order) {}

  void add(const std::filesystem::path& path) {
    Waiting next{{index_++, path.string()}, {}};
    try {
      next.image = read_image(path, segmenter_.card().input.order);
    } catch (const lrp_edge::Error& error) {
      run();
      skip(next.info, error.what());
      return;
    }
    if (!waiting_.empty() && waiting_.back().image.size() != next.image.size()) run();
    waiting_.push_back(std::move(next));
    if (waiting_.size() == batch_) run();
  }

  /// Run the waiting images.
  void run() {
    std::vector<lrp_edge::FrameView> frames;
    for (const Waiting& each : waiting_) frames.push_back(view(each.image));
    lrp_edge::Span<const lrp_edge::Result> results;
    std::string failure;
    try {
      results = segmenter_.run(frames);
    } catch (const lrp_edge::Error& error) {
      failure = error.what();
    }
    for (std::size_t i = 0; i < frames.size(); ++i) {
      if (failure.empty()) {
        write(waiting_[i], results[i]);
      } else {
        skip(waiting_[i].info, failure);
      }
    }
    waiting_.clear();
  }

  std::uint64_t count() const noexcept { return index_; }
  std::uint64_t defects() const noexcept { return defects_; }
  std::uint64_t skipped() const noexcept { return skipped_; }

 private:
  void write(const Waiting& each, const lrp_edge::Result& result) {
    Line line = result_line(each.info, result, mm_per_px_);
    line["latency_ms"] = milliseconds_since(each.info.captured);
    recorder_.draw(view(each.image), result, line);
    recorder_.write(line);
    defects_ += result.defect ? 1 : 0;
  }

  void skip(const FrameInfo& info, const std::string& why) {
    std::cerr << "lrp_edge_image: " << why << "\n";
    recorder_.write(error_line(info, why));
    ++skipped_;
  }

  lrp_edge::Segmenter& segmenter_;
  std::size_t batch_;
  Scale mm_per_px_;
  Recorder recorder_;
  std::vector<Waiting> waiting_;
  std::uint64_t index_ = 0, defects_ = 0, skipped_ = 0;
};

int run(const Settings& settings) {
  const auto files = find_images(settings.images);
  lrp_edge::Segmenter segmenter(settings.model.path, settings.model.options);
  warn_of(segmenter.card(), "lrp_edge_image");
  Images images(settings, segmenter);
  const auto start = Clock::now();
  for (const auto& file : files) images.add(file);
  images.run();
  std::cerr << images.count() << " images in " << milliseconds_since(start) << " ms, " << images.defects()
            << " defects, " << images.skipped() << " skipped; provider " << segmenter.provider() << "\n";
  return images.skipped() == 0 ? kDone : kFailed;
}

}  // namespace

int main(int count, char** words) {
  Settings settings;
  CLI::App app("Run a model over images: overlays, masks and a line of JSON each.", "lrp_edge_image");
  settings.model.add_to(app);
  app.add_option("images", settings.images, "Images, and folders of images")->required();
  settings.recorder.add_to(app);
  app.add_option("--batch", settings.batch, "Most images of one size in a call")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--mm-per-px", settings.mm_per_px, "Millimetres of a pixel's side")->check(CLI::PositiveNumber);
  app.footer("Ends with 0 if all images had a result, with 1 after an error, with 2 if it was called wrongly.");
  return run_program(app, count, words, [&settings] { return run(settings); });
}

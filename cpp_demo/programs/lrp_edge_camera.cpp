/// A camera through a model into a window, or into lines of JSON: capture and inference overlap.

#include "camera.hpp"
#include "common/images.hpp"
#include "common/interrupt.hpp"
#include "common/json_lines.hpp"
#include "common/overlay.hpp"
#include "common/program.hpp"
#include "common/recorder.hpp"
#include "common/statistics.hpp"

#include <lrp_edge/lrp_edge.hpp>

#include <opencv2/highgui.hpp>

#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <optional>
#include <sstream>
#include <string>

namespace {

using namespace programs;

constexpr char kWindow[] = "lrp_edge_camera";
constexpr int kEscape = 27;

struct Settings {
  ModelOptions model;
  RecorderOptions recorder;
  CameraOptions camera;
  std::string size;
  bool headless = false;
  bool lines = false;
};

/// Outcome of the frames.
struct Counts {
  std::uint64_t segmented = 0, failed = 0, defects = 0;
};

/// Reports status once a second.
class Progress {
 public:
  void add(double latency) {
    latencies_.add(latency);
    total_.add(latency);
    ++since_;
  }

  void tell(const Camera& camera) {
    const std::chrono::duration<double> passed = Clock::now() - told_;
    if (passed < std::chrono::seconds(1)) return;
    std::cerr << tenths(static_cast<double>(since_) / passed.count()) << " fps, latency " << latencies_.summary()
              << ", " << camera.dropped() << " dropped\n";
    told_ = Clock::now();
    since_ = 0;
    latencies_ = {};
  }

  void sum_up(const Camera& camera, const Counts& counts) const {
    const std::chrono::duration<double> passed = Clock::now() - start_;
    std::cerr << camera.captured() << " captured = " << counts.segmented << " segmented + " << counts.failed
              << " failed + " << camera.dropped() << " dropped; "
              << tenths(static_cast<double>(counts.segmented) / passed.count()) << " fps, latency " << total_.summary()
              << "; " << counts.defects << " defects\n";
  }

 private:
  const Clock::time_point start_ = Clock::now();
  Clock::time_point told_ = start_;
  std::uint64_t since_ = 0;
  Times latencies_, total_;
};

/// Fail now if no window can be opened: OpenCV's window systems end the process.
void require_display() {
#if defined(__linux__)
  for (const char* name : {"DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"}) {
    if (std::getenv(name) != nullptr) return;
  }
  throw lrp_edge::Error("there is no display to open a window on; run with --headless");
#endif
}

/// Show a result.
/// @return Whether to continue; Escape, q or a closed window end the program.
bool show(const cv::Mat& overlay) {
  cv::imshow(kWindow, overlay);
  const int key = cv::waitKey(1);
  return key != kEscape && key != 'q' && cv::getWindowProperty(kWindow, cv::WND_PROP_VISIBLE) >= 1;
}

/// Segments, writes and shows frames.
class Inspection {
 public:
  explicit Inspection(const Settings& settings)
      : settings_(settings), segmenter_(settings.model.path, settings.model.options) {
    warn_of(segmenter_.card(), "lrp_edge_camera");
    if (settings.lines || !settings.recorder.folder.empty()) {
      recorder_.emplace(settings.recorder, segmenter_.card().input.order);
    }
  }

  const std::string& order() const noexcept { return segmenter_.card().input.order; }

  /// @return Whether to continue.
  bool run(const CameraFrame& frame, Counts& counts) {
    const lrp_edge::FrameView pixels = view(frame.image);
    const lrp_edge::Result* result = nullptr;
    try {
      result = &segmenter_.run(pixels);
    } catch (const lrp_edge::Error& error) {
      fail(frame.info, error.what());
      ++counts.failed;
      return true;
    }
    ++counts.segmented;
    counts.defects += result->defect ? 1 : 0;
    write(frame.info, pixels, *result);
    return settings_.headless || show(draw_overlay(pixels, order(), *result));
  }

 private:
  void write(const FrameInfo& info, const lrp_edge::FrameView& pixels, const lrp_edge::Result& result) {
    if (!recorder_) return;
    Line line = result_line(info, result, 0);
    line["latency_ms"] = milliseconds_since(info.captured);
    recorder_->draw(pixels, result, line);
    recorder_->write(line);
  }

  void fail(const FrameInfo& info, const std::string& why) {
    std::cerr << "lrp_edge_camera: " << why << "\n";
    if (recorder_) recorder_->write(error_line(info, why));
  }

  const Settings& settings_;
  lrp_edge::Segmenter segmenter_;
  std::optional<Recorder> recorder_;
};

int run(Settings settings) {
  if (!settings.headless) require_display();
  Inspection inspection(settings);
  settings.camera.order = inspection.order();
  Camera camera(settings.camera);
  catch_interrupts();
  CameraFrame frame;
  Counts counts;
  Progress progress;
  bool goes_on = true;
  while (goes_on && camera.next(frame)) {
    const std::uint64_t before = counts.segmented;
    goes_on = inspection.run(frame, counts);
    if (counts.segmented > before) progress.add(milliseconds_since(frame.info.captured));
    progress.tell(camera);
  }
  camera.stop();
  progress.sum_up(camera, counts);
  return counts.failed == 0 ? kDone : kFailed;
}

/// Read HxW.
std::string read_size(const std::string& text, CameraOptions& camera) {
  char rest = 0, sign = 0;
  std::istringstream parts(text);
  const bool whole = parts >> camera.height >> sign >> camera.width && !(parts >> rest) && sign == 'x';
  return whole && camera.height > 0 && camera.width > 0 ? "" : text + " is not a size; expected e.g. 480x640";
}

}  // namespace

int main(int count, char** words) {
  Settings settings;
  CLI::App app("Run a model on a camera: a window, or lines of JSON.", "lrp_edge_camera");
  settings.model.add_to(app);
  app.add_option("--source", settings.camera.source,
                 "A camera's number, a stream's address, a video file, or images as in frame_%04d.png")
      ->capture_default_str();
  app.add_option("--size", settings.size, "Size that is asked of the camera, HxW")
      ->check([&settings](const std::string& text) { return read_size(text, settings.camera); });
  app.add_option("--frames", settings.camera.frames, "Stop after so many frames")->check(CLI::PositiveNumber);
  app.add_flag("--lossless", settings.camera.lossless, "Let the source wait rather than drop frames; for files");
  app.add_flag("--headless", settings.headless, "Open no window");
  app.add_flag("--json", settings.lines, "Write lines of JSON, to stdout unless -o is given");
  settings.recorder.add_to(app);
  app.footer(
      "Ends after SIGINT, SIGTERM, Escape or the last frame: with 0, with 1 after an error, with 2 if it was\n"
      "called wrongly.");
  return run_program(app, count, words, [&settings] { return run(settings); });
}

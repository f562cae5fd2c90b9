/// An inspection line whose trigger and camera are simulated: frames of files at a given rate. To make it real, call
/// InspectionLine::trigger() from the grabber's callback, and let the output callback set what ejects parts.

#include "common/images.hpp"
#include "common/interrupt.hpp"
#include "common/json_lines.hpp"
#include "common/program.hpp"
#include "common/recorder.hpp"
#include "common/statistics.hpp"
#include "inspection_line.hpp"

#include <lrp_edge/lrp_edge.hpp>

#include <chrono>
#include <cstdint>
#include <exception>
#include <iostream>
#include <string>
#include <thread>
#include <vector>

namespace {

using namespace programs;

struct Settings {
  ModelOptions model;
  RecorderOptions recorder;
  std::vector<std::string> images;
  double rate = 20;
  double deadline = 50;
  std::size_t buffers = 4;
  std::uint64_t parts = 0;
};

/// Frames that stand in for the parts passing the camera.
struct Parts {
  std::vector<std::string> sources;
  std::vector<cv::Mat> images;

  Parts(const std::vector<std::string>& places, const std::string& order) {
    for (const auto& path : find_images(places)) {
      sources.push_back(path.string());
      images.push_back(read_image(path, order));
      if (images.back().size() != images.front().size()) {
        throw lrp_edge::Error(sources.back() + " has another size than " + sources.front() +
                              "; a line's camera has one");
      }
    }
  }
};

const char* name(Outcome outcome) {
  return outcome == Outcome::in_time ? "in_time" : outcome == Outcome::late ? "late" : "missed";
}

/// Where a PLC would be notified: a line of JSON for each verdict.
class Outputs {
 public:
  Outputs(const Settings& settings, const Parts& parts, const std::string& order)
      : parts_(parts), recorder_(settings.recorder, order) {}

  /// Must not throw: an error is kept, and ends the program when it is asked for.
  void write(const Verdict& verdict) noexcept {
    try {
      const FrameInfo info{verdict.part, parts_.sources[verdict.part % parts_.sources.size()]};
      Line line = verdict.result == nullptr ? frame_line(info) : result_line(info, *verdict.result, 0);
      line["outcome"] = name(verdict.outcome);
      line["reject"] = verdict.reject;
      line["reason"] = verdict.reason;
      line["latency_ms"] = static_cast<double>(verdict.latency.count()) / 1e3;
      if (verdict.result != nullptr) recorder_.draw(verdict.frame, *verdict.result, line);
      recorder_.write(line);
      latencies_.add(static_cast<double>(verdict.latency.count()) / 1e3);
    } catch (...) {
      failure_ = std::current_exception();
    }
  }

  /// Call once the line has finished.
  const Times& latencies() const {
    if (failure_ != nullptr) std::rethrow_exception(failure_);
    return latencies_;
  }

 private:
  const Parts& parts_;
  Recorder recorder_;
  Times latencies_;
  std::exception_ptr failure_;
};

/// Trigger at a steady rate until the parts have passed, or a signal comes.
void simulate(InspectionLine& line, const Parts& parts, const Settings& settings) {
  const std::uint64_t count = settings.parts == 0 ? parts.images.size() : settings.parts;
  const std::chrono::duration<double> period(1 / settings.rate);
  const auto start = Clock::now();
  for (std::uint64_t part = 0; part < count && !interrupted(); ++part) {
    std::this_thread::sleep_until(start + std::chrono::duration_cast<Clock::duration>(period * part));
    line.trigger(view(parts.images[part % parts.images.size()]));
  }
}

int run(const Settings& settings) {
  lrp_edge::Segmenter segmenter(settings.model.path, settings.model.options);
  warn_of(segmenter.card(), "lrp_edge_line");
  const Parts parts(settings.images, segmenter.card().input.order);
  LineOptions options;
  options.height = static_cast<std::size_t>(parts.images.front().rows);
  options.width = static_cast<std::size_t>(parts.images.front().cols);
  options.buffers = settings.buffers;
  options.deadline = std::chrono::microseconds(static_cast<std::int64_t>(settings.deadline * 1e3));
  Outputs outputs(settings, parts, segmenter.card().input.order);
  InspectionLine line(segmenter, options, [&outputs](const Verdict& verdict) { outputs.write(verdict); });
  catch_interrupts();
  simulate(line, parts, settings);
  line.finish();
  const LineCounts counts = line.counts();
  std::cerr << counts.triggers << " triggers = " << counts.in_time << " in time + " << counts.late << " late + "
            << counts.missed << " missed; " << counts.rejected << " rejected, " << counts.failed
            << " failed; trigger to verdict " << outputs.latencies().summary() << "\n";
  return counts.failed == 0 ? kDone : kFailed;
}

}  // namespace

int main(int count, char** words) {
  Settings settings;
  CLI::App app("An inspection line with a simulated trigger: every part gets a verdict by its deadline.",
               "lrp_edge_line");
  settings.model.add_to(app);
  app.add_option("images", settings.images, "What comes past the camera: images of one size, and folders of them")
      ->required();
  app.add_option("--rate", settings.rate, "Parts a second")->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--deadline", settings.deadline, "Milliseconds from a trigger to its verdict")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--buffers", settings.buffers, "Frames that may be under way at once")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--parts", settings.parts, "Parts in all; the images come again [default: each image once]")
      ->check(CLI::PositiveNumber);
  settings.recorder.add_to(app);
  app.footer(
      "A part that is late, or was missed because no buffer was free, is rejected, and counted.\n"
      "Ends with 0, with 1 after an error, with 2 if it was called wrongly.");
  return run_program(app, count, words, [&settings] { return run(settings); });
}

/// lrp_edge_overhead MODEL HEIGHT WIDTH CALLS: what lrp_edge costs compared with Ort::Session::Run alone, alternating.
///
/// Prints `start milliseconds` with the time to open the model, `memory KiB` with what is resident after a call, and
/// then, in microseconds, `NAME undisturbed median session regions`: lrp_edge less ONNX Runtime by the lower deciles,
/// which other work on the machine does not touch, and by the medians; the session's own median; and the number of
/// regions. This for frames without regions, with a few, and for rows with gaps; with no CALLS, not at all.

#include "plain_session.hpp"

#include <lrp_edge/lrp_edge.hpp>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <string>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;
using Microseconds = std::chrono::duration<double, std::micro>;

template <class Function>
double time_of(Function function) {
  const auto start = Clock::now();
  function();
  return Microseconds(Clock::now() - start).count();
}

/// The value below which a share of all lies.
double quantile(std::vector<double> values, double share) {
  const auto at = values.begin() + static_cast<std::ptrdiff_t>(share * static_cast<double>(values.size()));
  std::nth_element(values.begin(), at, values.end());
  return *at;
}

/// Dark, and bright in some squares.
std::vector<std::uint8_t> picture(std::size_t height, std::size_t stride, std::size_t squares) {
  std::vector<std::uint8_t> bytes(height * stride, 40);
  for (std::size_t k = 0; k < squares; ++k) {
    const std::size_t top = height * k / squares, left = stride * k / squares;
    for (std::size_t y = top; y < std::min(height, top + 20); ++y) {
      for (std::size_t x = left; x < std::min(stride, left + 60); ++x) bytes[y * stride + x] = 250;
    }
  }
  return bytes;
}

struct Setting {
  std::string model;
  std::size_t height, width, calls;
};

void measure(const std::string& name, const Setting& setting, lrp_edge::Segmenter& segmenter, std::size_t gap,
             std::size_t squares) {
  const std::size_t channels = segmenter.card().input.channels(), stride = setting.width * channels + gap;
  std::vector<std::uint8_t> bytes = picture(setting.height, stride, squares);
  PlainSession session(setting.model, bytes.data(),
                       {1, static_cast<std::int64_t>(setting.height), static_cast<std::int64_t>(setting.width),
                        static_cast<std::int64_t>(channels)},
                       static_cast<std::int64_t>(segmenter.card().classes.size()));
  const lrp_edge::FrameView frame{bytes.data(), setting.height, setting.width, channels,
                                  static_cast<std::ptrdiff_t>(stride)};
  std::vector<double> ours, plain;
  std::size_t regions = 0;
  for (std::size_t i = 0; i < setting.calls + 10; ++i) {
    double with = 0, without = 0;
    const auto run_ours = [&] { with = time_of([&] { regions = segmenter.run(frame).regions.size(); }); };
    if (i % 2 == 0) run_ours();
    without = time_of([&] { session.run(); });
    if (i % 2 != 0) run_ours();
    if (i < 10) continue;
    ours.push_back(with);
    plain.push_back(without);
  }
  std::cout << name << " " << quantile(ours, 0.1) - quantile(plain, 0.1) << " "
            << quantile(ours, 0.5) - quantile(plain, 0.5) << " " << quantile(plain, 0.5) << " " << regions << "\n";
}

std::string resident_kib() {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    if (word == "VmRSS:" && status >> word) return word;
  }
  return "unknown";
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 5) return 2;
  const Setting setting{argv[1], std::strtoul(argv[2], nullptr, 10), std::strtoul(argv[3], nullptr, 10),
                        std::strtoul(argv[4], nullptr, 10)};
  lrp_edge::Options options;
  options.provider = "cpu";
  options.threads = 1;
  const auto start = Clock::now();
  lrp_edge::Segmenter segmenter(setting.model, options);
  std::cout << "start " << Microseconds(Clock::now() - start).count() / 1e3 << "\n";
  const std::size_t channels = segmenter.card().input.channels();
  const std::vector<std::uint8_t> bytes = picture(setting.height, setting.width * channels, 0);
  segmenter.run({bytes.data(), setting.height, setting.width, channels, 0});
  std::cout << "memory " << resident_kib() << "\n";
  if (setting.calls == 0) return 0;
  measure("plain", setting, segmenter, 0, 0);
  measure("regions", setting, segmenter, 0, 8);
  measure("strided", setting, segmenter, 32, 0);
  return 0;
}

#include "common/json_lines.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <utility>

namespace programs {
namespace {

constexpr int kSchema = 1;
/// Regions that are listed of a frame, as by lrp-edge run: noise has a hundred thousand.
constexpr std::size_t kMostRegions = 1000;

/// A number as printf writes it in a format; that rounds as Python does.
double rounded(const char* format, double value) {
  std::array<char, 64> digits{};
  static_cast<void>(std::snprintf(digits.data(), digits.size(), format, value));
  return std::strtod(digits.data(), nullptr);
}

double square_millimetres(std::int64_t area, Scale mm_per_px) {
  return rounded("%.6g", static_cast<double>(area) * mm_per_px * mm_per_px);
}

/// UTC in ISO 8601 with milliseconds.
std::string iso(std::chrono::system_clock::time_point moment) {
  using std::chrono::milliseconds;
  const auto since = std::chrono::floor<milliseconds>(moment.time_since_epoch()).count();
  const auto seconds = static_cast<std::time_t>(since / 1000);
  std::tm parts{};
#if defined(_WIN32)
  gmtime_s(&parts, &seconds);
#else
  gmtime_r(&seconds, &parts);
#endif
  std::array<char, 64> digits{};
  const std::size_t size = std::strftime(digits.data(), digits.size(), "%Y-%m-%dT%H:%M:%S", &parts);
  std::array<char, 8> rest{};
  static_cast<void>(std::snprintf(rest.data(), rest.size(), ".%03dZ", static_cast<int>(since % 1000)));
  return std::string(digits.data(), size) + rest.data();
}

Line region_line(const lrp_edge::Region& region, Scale mm_per_px) {
  Line line{{"box", {region.x, region.y, region.width, region.height}},
            {"area_px", region.area},
            {"extent_px", rounded("%.2f", region.extent)},
            {"relevance", rounded("%.4g", region.relevance)}};
  if (mm_per_px > 0) {
    line["area_mm2"] = square_millimetres(region.area, mm_per_px);
    line["extent_mm"] = rounded("%.6g", region.extent * mm_per_px);
  }
  return line;
}

/// Add the largest regions, and number and area of all.
void add_regions(Line& line, lrp_edge::Span<const lrp_edge::Region> regions, Scale mm_per_px) {
  Line listed = Line::array();
  std::int64_t area = 0;
  for (const lrp_edge::Region& region : regions) {
    if (listed.size() < kMostRegions) listed.push_back(region_line(region, mm_per_px));
    area += region.area;
  }
  line["regions"] = std::move(listed);
  line["regions_found"] = regions.size();
  line["regions_area_px"] = area;
  if (mm_per_px > 0) line["regions_area_mm2"] = square_millimetres(area, mm_per_px);
}

double mask_fraction(const lrp_edge::PlaneView<std::uint8_t>& mask) {
  const auto zeros = std::count(mask.data, mask.data + mask.size(), 0);
  return 1 - static_cast<double>(zeros) / static_cast<double>(mask.size());
}

}  // namespace

Line frame_line(const FrameInfo& frame) {
  const std::chrono::duration<double> captured = frame.captured.time_since_epoch();
  return {{"schema", kSchema},
          {"frame", frame.index},
          {"source", frame.source},
          {"time", iso(frame.time)},
          {"captured", rounded("%.6f", captured.count())}};
}

Line result_line(const FrameInfo& frame, const lrp_edge::Result& result, Scale mm_per_px) {
  Line line = frame_line(frame);
  line["label"] = result.label;
  line["name"] = result.name;
  line["defect"] = result.defect;
  line["reject"] = result.defect;
  line["reason"] = result.defect ? "class " + std::string(result.name) : std::string();
  line["scores"] = Line::array();
  for (const float score : result.scores) line["scores"].push_back(rounded("%.6f", static_cast<double>(score)));
  line["mask_fraction"] = rounded("%.6f", mask_fraction(result.mask));
  add_regions(line, result.regions, mm_per_px);
  line["engine_ms"] = rounded("%.3f", result.milliseconds);
  return line;
}

Line error_line(const FrameInfo& frame, const std::string& error) {
  Line line = frame_line(frame);
  line["error"] = error;
  return line;
}

double milliseconds_since(Clock::time_point start) {
  const std::chrono::duration<double, std::milli> passed = Clock::now() - start;
  return rounded("%.3f", passed.count());
}

std::string text(const Line& line) {
  return line.dump(-1, ' ', false, Line::error_handler_t::replace);
}

}  // namespace programs

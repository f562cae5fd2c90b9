/// @file
/// Results as lines of JSON, with the fields of `lrp-edge run`'s results.jsonl.
#ifndef LRP_EDGE_PROGRAMS_COMMON_JSON_LINES_HPP
#define LRP_EDGE_PROGRAMS_COMMON_JSON_LINES_HPP

#include <lrp_edge/lrp_edge.hpp>

#include <nlohmann/json.hpp>

#include <chrono>
#include <cstdint>
#include <string>

namespace programs {

using Clock = std::chrono::steady_clock;
using Line = nlohmann::ordered_json;

/// Where and when a frame was taken.
struct FrameInfo {
  std::uint64_t index = 0;
  std::string source;
  std::chrono::system_clock::time_point time = std::chrono::system_clock::now();
  Clock::time_point captured = Clock::now();
};

/// Millimetres of a pixel's side; 0 where they are not known.
using Scale = double;

/// The fields that every line has.
Line frame_line(const FrameInfo& frame);

/// The line of a frame with a result. A frame that is classified as a defect is rejected.
Line result_line(const FrameInfo& frame, const lrp_edge::Result& result, Scale mm_per_px);

/// The line of a frame without one.
Line error_line(const FrameInfo& frame, const std::string& error);

/// Milliseconds since a moment, rounded to thousandths.
double milliseconds_since(Clock::time_point start);

/// As one line of UTF-8; bytes of a file's name that are none are replaced.
std::string text(const Line& line);

}  // namespace programs

#endif

/// @file
/// Where results go: a folder, or standard output.
#ifndef LRP_EDGE_PROGRAMS_COMMON_RECORDER_HPP
#define LRP_EDGE_PROGRAMS_COMMON_RECORDER_HPP

#include "common/json_lines.hpp"
#include "common/program.hpp"

#include <lrp_edge/lrp_edge.hpp>

#include <filesystem>
#include <fstream>
#include <string>

namespace programs {

/// What is written.
struct RecorderOptions {
  std::string folder;          ///< Empty for lines on standard output, without images.
  std::string images = "all";  ///< Of which frames masks and overlays are written: all, defects or none.
  bool overwrite = false;      ///< Whether results that are there may be replaced.

  void add_to(CLI::App& app);
};

/// Writes results.jsonl, masks/ and overlays/ of a folder; or lines on standard output. One thread at a time.
class Recorder {
 public:
  /// @param order Channel order of the frames.
  /// @throws lrp_edge::Error If the folder cannot be written to, or has results that are to stay.
  Recorder(RecorderOptions options, std::string order);

  /// Write a line.
  /// @throws lrp_edge::Error If it cannot be written.
  void write(const Line& line);

  /// Write a frame's images if they are wanted, and name them in its line.
  /// @throws lrp_edge::Error If they cannot be written.
  void draw(const lrp_edge::FrameView& frame, const lrp_edge::Result& result, Line& line) const;

 private:
  RecorderOptions options_;
  std::string order_;
  std::ofstream lines_;
};

}  // namespace programs

#endif

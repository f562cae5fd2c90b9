#include "common/recorder.hpp"

#include "common/overlay.hpp"

#include <opencv2/imgcodecs.hpp>

#include <cctype>
#include <iostream>
#include <system_error>
#include <utility>

namespace programs {
namespace {

namespace fs = std::filesystem;
using lrp_edge::Error;

/// What a source is called, as part of a file's name.
std::string stem(const std::string& source) {
  std::string name = fs::path(source.substr(0, source.find('#'))).stem().string();
  for (char& letter : name) {
    const auto byte = static_cast<unsigned char>(letter);
    if (std::isalnum(byte) == 0 && letter != '.' && letter != '-') letter = '_';
  }
  return name.empty() ? "frame" : name.substr(0, 60);
}

std::string file_name(const Line& line) {
  std::string index = std::to_string(line.at("frame").get<std::uint64_t>());
  index.insert(0, index.size() < 6 ? 6 - index.size() : 0, '0');
  return index + "_" + stem(line.at("source").get<std::string>()) + ".png";
}

void write_png(const fs::path& path, const cv::Mat& image) {
  if (!cv::imwrite(path.string(), image)) throw Error("cannot write " + path.string() + "; free space");
}

}  // namespace

void RecorderOptions::add_to(CLI::App& app) {
  app.add_option("-o,--output", folder, "Folder for results.jsonl, masks/ and overlays/ [default: lines on stdout]");
  app.add_option("--images", images, "Of which frames masks and overlays are written")
      ->check(CLI::IsMember({"all", "defects", "none"}))
      ->capture_default_str();
  app.add_flag("--overwrite", overwrite, "Replace results that are there");
}

Recorder::Recorder(RecorderOptions options, std::string order)
    : options_(std::move(options)), order_(std::move(order)) {
  if (options_.folder.empty()) return;
  const fs::path folder(options_.folder), path = folder / "results.jsonl";
  if (fs::exists(path) && !options_.overwrite) {
    throw Error(path.string() + " exists; choose another folder, or --overwrite");
  }
  std::error_code failed;
  for (const char* part : {"masks", "overlays"}) {
    if (options_.images != "none" && !failed) fs::create_directories(folder / part, failed);
  }
  if (!failed) fs::create_directories(folder, failed);
  if (!failed) lines_.open(path, std::ios::binary);
  if (failed || !lines_) throw Error("cannot write to " + folder.string() + "; choose another folder");
}

void Recorder::write(const Line& line) {
  std::ostream& target = options_.folder.empty() ? std::cout : lines_;
  target << text(line) << std::endl;
  if (!target) throw Error("cannot write results; free space");
}

void Recorder::draw(const lrp_edge::FrameView& frame, const lrp_edge::Result& result, Line& line) const {
  const bool wanted = options_.images == "all" || (options_.images == "defects" && result.defect);
  if (options_.folder.empty() || !wanted) return;
  const std::string name = file_name(line);
  line["mask"] = "masks/" + name;
  line["overlay"] = "overlays/" + name;
  write_png(fs::path(options_.folder) / "masks" / name, as_image(result.mask));
  write_png(fs::path(options_.folder) / "overlays" / name, draw_overlay(frame, order_, result));
}

}  // namespace programs

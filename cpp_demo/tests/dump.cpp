/// lrp_edge_dump MODEL FRAMES OUT [GAP]: writes what the library answers, byte by byte, for Python to compare.
///
/// For each frame: int32 label, int32 defect, float32 scores [K], uint8 mask [H, W], float32 relevance [H, W], int64
/// number of regions, and for each region int64 x, y, width, height, area and float64 extent, relevance.

#include "frame_file.hpp"

#include <lrp_edge/lrp_edge.hpp>

#include <cstdint>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <iostream>
#include <string>

namespace {

template <class T>
void write(std::ofstream& file, const T* values, std::size_t count) {
  file.write(reinterpret_cast<const char*>(values), static_cast<std::streamsize>(count * sizeof(T)));
}

template <class T>
void write(std::ofstream& file, T value) {
  write(file, &value, 1);
}

void write(std::ofstream& file, const lrp_edge::Result& result) {
  write(file, result.label);
  write<std::int32_t>(file, result.defect ? 1 : 0);
  write(file, result.scores.data(), result.scores.size());
  write(file, result.mask.data, result.mask.size());
  write(file, result.relevance.data, result.relevance.size());
  write(file, static_cast<std::int64_t>(result.regions.size()));
  for (const lrp_edge::Region& region : result.regions) {
    for (const std::int64_t value : {std::int64_t{region.x}, std::int64_t{region.y}, std::int64_t{region.width},
                                     std::int64_t{region.height}, region.area}) {
      write(file, value);
    }
    write(file, region.extent);
    write(file, region.relevance);
  }
}

void run(const std::string& model, const std::string& frames, const std::string& out, std::size_t gap) {
  lrp_edge::Options options;
  options.provider = "cpu";
  options.threads = 1;
  lrp_edge::Segmenter segmenter(model, options);
  std::ofstream file(out, std::ios::binary);
  for (const Call& call : read_calls(frames, gap)) {
    for (const lrp_edge::Result& result : segmenter.run(call.frames)) write(file, result);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) return 2;
  try {
    run(argv[1], argv[2], argv[3], argc > 4 ? std::strtoul(argv[4], nullptr, 10) : 0);
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
  return 0;
}

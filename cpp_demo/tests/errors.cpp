/// lrp_edge_errors MODEL PROVIDER THREADS: says what is wrong, in one line each.
///
/// Opens the model. Then each line of the input is a call, `height width channels stride` for each of its frames, which
/// are zero; a stride of "none" stands for a frame without data. Answers with the error or the labels.

#include <lrp_edge/lrp_edge.hpp>

#include <cstdint>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

namespace {

constexpr std::size_t kMemory = std::size_t{1} << 22U;

std::vector<lrp_edge::FrameView> frames_of(const std::string& line, const std::vector<std::uint8_t>& memory) {
  std::vector<lrp_edge::FrameView> frames;
  std::istringstream words(line);
  lrp_edge::FrameView frame;
  for (std::string stride; words >> frame.height >> frame.width >> frame.channels >> stride;) {
    const bool none = stride == "none";
    frame.data = none ? nullptr : memory.data();
    frame.stride = none ? 0 : std::stoll(stride);
    frames.push_back(frame);
  }
  return frames;
}

void answer(lrp_edge::Segmenter& segmenter, const std::vector<lrp_edge::FrameView>& frames) {
  try {
    const auto results = segmenter.run(frames);
    std::cout << "labels";
    for (const lrp_edge::Result& result : results) std::cout << " " << result.label;
    std::cout << "\n";
  } catch (const lrp_edge::Error& error) {
    std::cout << error.what() << "\n";
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) return 2;
  const std::vector<std::uint8_t> memory(kMemory);
  lrp_edge::Options options;
  options.provider = argv[2];
  options.threads = std::atoi(argv[3]);
  try {
    lrp_edge::Segmenter segmenter(argv[1], options);
    std::cout << "provider " << segmenter.provider() << "\n";
    for (std::string line; std::getline(std::cin, line);) answer(segmenter, frames_of(line, memory));
  } catch (const lrp_edge::Error& error) {
    std::cout << error.what() << "\n";
  }
  return 0;
}

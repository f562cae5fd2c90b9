// consumer MODEL: says what a bright frame is.

#include <lrp_edge/lrp_edge.hpp>

#include <cstdint>
#include <iostream>
#include <vector>

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  try {
    lrp_edge::Segmenter segmenter(argv[1]);
    const std::size_t channels = segmenter.card().input.channels();
    const std::vector<std::uint8_t> pixels(480 * 640 * channels, 200);
    const lrp_edge::Result& result = segmenter.run({pixels.data(), 480, 640, channels});
    std::cout << result.name << ", " << result.regions.size() << " regions\n";
  } catch (const lrp_edge::Error& error) {
    std::cerr << "error: " << error.what() << "\n";
    return 1;
  }
  return 0;
}

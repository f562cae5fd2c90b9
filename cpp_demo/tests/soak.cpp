/// lrp_edge_soak MODEL FRAMES: many frames of several sizes, good and bad, and segmenters that come and go; for
/// valgrind.

#include <lrp_edge/lrp_edge.hpp>

#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace {

constexpr std::size_t kLargest = 40;

lrp_edge::Options on_one_core() {
  lrp_edge::Options options;
  options.provider = "cpu";
  options.threads = 1;
  return options;
}

/// Run a frame that the model does not take every seventh time.
bool run(lrp_edge::Segmenter& segmenter, const std::vector<std::uint8_t>& memory, std::size_t index) {
  const std::size_t height = 1 + index % kLargest, width = 1 + index * 7 % kLargest;
  const std::size_t channels = index % 7 == 0 ? 2 : 3;
  const std::ptrdiff_t stride = index % 3 == 0 ? static_cast<std::ptrdiff_t>(kLargest * 3) : 0;
  try {
    const lrp_edge::Result& result = segmenter.run({memory.data() + index % 5, height, width, channels, stride});
    return result.mask.size() == height * width;
  } catch (const lrp_edge::Error&) {
    return channels == 2;
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) return 2;
  const std::size_t frames = std::strtoul(argv[2], nullptr, 10);
  std::vector<std::uint8_t> memory(kLargest * kLargest * 3 + 8);
  for (std::size_t i = 0; i < memory.size(); ++i) memory[i] = static_cast<std::uint8_t>(i * 37 + i / 11);
  std::optional<lrp_edge::Segmenter> segmenter;
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < frames; ++i) {
    if (i % 250 == 0) segmenter.emplace(argv[1], on_one_core());
    if (i % 250 == 125) segmenter = lrp_edge::Segmenter(std::move(*segmenter));
    if (!run(*segmenter, memory, i)) ++wrong;
  }
  std::cout << frames << " frames, " << wrong << " wrong\n";
  return wrong == 0 ? 0 : 1;
}

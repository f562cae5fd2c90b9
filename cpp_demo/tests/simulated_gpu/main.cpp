/// Runs the TensorRT backend on a simulated GPU, and says in a line of JSON the outcome of each step.
///
///     simulated_gpu ENGINE FRAMES [GPU.MEMBER=VALUE | fail=CALL:WELL_BEFORE:CODE | heal]... open STEP...
///
/// A step is `NxHxW` or `NxHxW+GAP`: a run on the first bytes of FRAMES, with GAP bytes between the rows.

#include "backend.hpp"
#include "gpu.hpp"

#include <lrp_edge/error.hpp>

#include <nlohmann/json.hpp>

#include <cstdint>
#include <fstream>
#include <iostream>
#include <iterator>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

namespace {

using nlohmann::json;
using simulated_gpu::gpu;

void set(const std::string& member, const std::string& value) {
  const int number = value.find_first_not_of("0123456789") == std::string::npos ? std::stoi(value) : 0;
  if (member == "devices") gpu().devices = number;
  if (member == "current") gpu().current = number;
  if (member == "minor") gpu().minor = number;
  if (member == "recordable") gpu().recordable = number != 0;
  if (member == "contexts") gpu().contexts = number;
  if (member == "loads") gpu().loads = number != 0;
  if (member == "invalid") gpu().invalid = static_cast<std::size_t>(number);
  if (member == "mask_shape") {
    std::istringstream extents(value);
    for (std::string extent; std::getline(extents, extent, 'x');) gpu().mask_shape.push_back(std::stoi(extent));
  }
  if (member == "mistyped") gpu().mistyped = value;
  if (member == "fail") {
    std::istringstream parts(value);
    std::string call, before, code;
    std::getline(std::getline(std::getline(parts, call, ':'), before, ':'), code, ':');
    gpu().faults[call] = {std::stoi(before), static_cast<cudaError_t>(std::stoi(code))};
  }
}

/// Frames with garbage between their rows, in memory of their own.
struct Frames {
  Frames(const std::string& step, const std::vector<std::uint8_t>& bytes) {
    std::istringstream text(step);
    char sign = 0;
    std::size_t gap = 0;
    text >> count >> sign >> height >> sign >> width;
    if (text >> sign) text >> gap;
    const std::size_t row = width * 3, stride = row + gap;
    padded.assign(count * height * stride, 0x55);
    for (std::size_t y = 0; y < count * height; ++y) {
      std::copy_n(bytes.begin() + static_cast<std::ptrdiff_t>(y * row), row,
                  padded.begin() + static_cast<std::ptrdiff_t>(y * stride));
    }
    for (std::size_t i = 0; i < count; ++i) {
      views.push_back({padded.data() + i * height * stride, height, width, 3, static_cast<std::ptrdiff_t>(stride)});
    }
  }

  std::size_t count = 0, height = 0, width = 0;
  std::vector<std::uint8_t> padded;
  std::vector<lrp_edge::FrameView> views;
};

json run(lrp_edge::Backend& backend, const Frames& frames) {
  const lrp_edge::Outputs outputs = backend.run(frames.views);
  const std::size_t pixels = frames.count * frames.height * frames.width;
  return {{"scores", std::vector<float>(outputs.scores, outputs.scores + frames.count * 2)},
          {"label", std::vector<std::int32_t>(outputs.label, outputs.label + frames.count)},
          {"mask", std::vector<int>(outputs.mask, outputs.mask + pixels)},
          {"relevance", std::vector<float>(outputs.relevance, outputs.relevance + pixels)}};
}

json step(std::unique_ptr<lrp_edge::Backend>& backend, const std::string& engine, const std::string& word,
          const std::vector<std::uint8_t>& bytes) {
  const std::size_t sign = word.find('=');
  if (sign != std::string::npos) {
    set(word.substr(0, sign), word.substr(sign + 1));
    return nullptr;
  }
  if (word == "heal") {
    gpu().faults.clear();
    return nullptr;
  }
  if (word.rfind("open", 0) == 0) {
    lrp_edge::Options options;
    options.provider = word.substr(word.size() > 4 ? 5 : 4);
    backend = lrp_edge::open_tensorrt(engine, options);
    return {{"provider", backend->provider()}, {"config", gpu().config}};
  }
  return run(*backend, Frames(word, bytes));
}

}  // namespace

int main(int count, char** words) {
  std::ifstream file(words[2], std::ios::binary);
  const std::vector<std::uint8_t> bytes(std::istreambuf_iterator<char>(file), {});
  std::unique_ptr<lrp_edge::Backend> backend;
  for (int i = 3; i < count; ++i) {
    json line;
    try {
      line = step(backend, words[1], words[i], bytes);
    } catch (const lrp_edge::Error& error) {
      line = {{"error", error.what()}};
    }
    if (!line.is_null()) std::cout << line << "\n";
    if (backend == nullptr && line.contains("error")) break;
  }
  backend.reset();
  std::cout << json{{"live", gpu().live()}, {"current", gpu().current}, {"calls", gpu().calls}} << "\n";
  return 0;
}

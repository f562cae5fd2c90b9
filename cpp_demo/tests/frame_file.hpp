/// @file
/// Files of frames, which Python writes: for each call four uint32 (frames, height, width, channels) and the bytes.
#ifndef LRP_EDGE_TESTS_FRAME_FILE_HPP
#define LRP_EDGE_TESTS_FRAME_FILE_HPP

#include <lrp_edge/views.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

/// Frames of one call and the memory that they lie in.
struct Call {
  std::vector<std::uint8_t> bytes;
  std::vector<lrp_edge::FrameView> frames;
};

/// @param gap Bytes between two rows, filled with what must not be read.
inline Call read_call(std::ifstream& file, const std::array<std::uint32_t, 4>& header, std::size_t gap) {
  const std::size_t count = header[0], height = header[1], row = std::size_t{header[2]} * header[3];
  const std::size_t stride = row + gap;
  Call call;
  call.bytes.assign(count * height * stride, 0xa5);
  for (std::size_t i = 0; i < count * height; ++i) {
    file.read(reinterpret_cast<char*>(call.bytes.data() + i * stride), static_cast<std::streamsize>(row));
  }
  if (!file) throw std::runtime_error("the file of frames is cut short");
  for (std::size_t i = 0; i < count; ++i) {
    call.frames.push_back({call.bytes.data() + i * height * stride, height, header[2], header[3],
                           gap == 0 ? 0 : static_cast<std::ptrdiff_t>(stride)});
  }
  return call;
}

inline std::vector<Call> read_calls(const std::string& path, std::size_t gap) {
  std::ifstream file(path, std::ios::binary);
  std::vector<Call> calls;
  std::array<std::uint32_t, 4> header{};
  while (file.read(reinterpret_cast<char*>(header.data()), sizeof(header))) {
    calls.push_back(read_call(file, header, gap));
  }
  return calls;
}

#endif

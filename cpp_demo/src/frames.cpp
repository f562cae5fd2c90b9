#include "frames.hpp"

#include "text.hpp"

#include <lrp_edge/error.hpp>

#include <algorithm>
#include <cstring>
#include <limits>
#include <string>

namespace lrp_edge {
namespace {

constexpr std::size_t kMost = std::numeric_limits<std::ptrdiff_t>::max();
constexpr std::size_t kMostPixels = std::numeric_limits<std::int32_t>::max();

std::string size_text(const Size& size) {
  return "(" + std::to_string(size.height) + ", " + std::to_string(size.width) + ")";
}

std::size_t row_bytes(const FrameView& frame) noexcept {
  return frame.width * frame.channels;
}

std::size_t stride_of(const FrameView& frame) noexcept {
  return frame.stride == 0 ? row_bytes(frame) : static_cast<std::size_t>(frame.stride);
}

void check_shape(const FrameView& frame, const InputSpec& spec) {
  const bool none = frame.height == 0 || frame.width == 0;
  if (none || frame.channels != spec.channels()) {
    throw Error("frame has shape " + shape_text({frame.height, frame.width, frame.channels}) + "; expected [H, W, " +
                std::to_string(spec.channels()) + "] (" + spec.order + ")");
  }
  if (spec.size && Size{frame.height, frame.width} != *spec.size) {
    throw Error("frame is " + std::to_string(frame.height) + "x" + std::to_string(frame.width) + "; this model takes " +
                std::to_string(spec.size->height) + "x" + std::to_string(spec.size->width) +
                ": resize the frame, or export with --size dynamic");
  }
}

/// Whether all bytes of a frame can be pointed to, and its pixels counted.
bool is_addressable(const FrameView& frame) noexcept {
  if (frame.height > kMostPixels / frame.width || frame.height > kMost / stride_of(frame)) return false;
  const auto address = reinterpret_cast<std::uintptr_t>(frame.data);
  return stride_of(frame) * frame.height <= std::numeric_limits<std::uintptr_t>::max() - address;
}

void check_memory(const FrameView& frame) {
  const bool wide = frame.width > kMost / frame.channels;
  const bool short_stride = frame.stride < 0 || (!wide && stride_of(frame) < row_bytes(frame));
  if (frame.data != nullptr && !short_stride && !wide && is_addressable(frame)) return;
  const std::string shape = "frame " + shape_text({frame.height, frame.width, frame.channels});
  if (frame.data == nullptr) throw Error(shape + " has no data; expected a pointer to its first byte");
  const std::string stride = shape + " has a stride of " + std::to_string(frame.stride) + " bytes";
  if (short_stride && !wide) {
    throw Error(stride + "; expected " + std::to_string(row_bytes(frame)) + " or more, or 0 if the rows are adjacent");
  }
  throw Error(stride + " and reaches beyond the memory's end; expected its own height, width and stride");
}

void check_sizes(Span<const FrameView> frames) {
  const auto less = [](const FrameView& a, const FrameView& b) {
    return a.height != b.height ? a.height < b.height : a.width < b.width;
  };
  const FrameView& least = *std::min_element(frames.begin(), frames.end(), less);
  const FrameView* next = nullptr;
  for (const FrameView& frame : frames) {
    if (less(least, frame) && (next == nullptr || less(frame, *next))) next = &frame;
  }
  if (next != nullptr) {
    throw Error("frames of a batch have sizes " + size_text({least.height, least.width}) + " and " +
                size_text({next->height, next->width}) + "; expected one size");
  }
}

void check_count(std::size_t frames, const Card& card) {
  if (frames <= card.largest_batch()) return;
  const std::string count = std::to_string(frames), largest = std::to_string(card.largest_batch());
  const std::string other =
      card.profile ? "compile the engine with a larger --batch" : "export the model with --max-batch " + count;
  throw Error("a batch of " + count + " frames is more than the model takes (" + largest + "): make it smaller, or " +
              other);
}

}  // namespace

void check_frames(Span<const FrameView> frames, const Card& card) {
  check_count(frames.size(), card);
  for (const FrameView& frame : frames) {
    check_shape(frame, card.input);
    check_memory(frame);
  }
  if (frames.empty()) return;
  check_sizes(frames);
  if (frames.size() > kMost / sizeof(float) / frame_bytes(frames[0])) {
    throw Error("a batch " + batch_text(frames) + " is larger than the memory; make it smaller");
  }
}

std::size_t frame_bytes(const FrameView& frame) noexcept {
  return frame.height * row_bytes(frame);
}

bool are_adjacent(Span<const FrameView> frames) noexcept {
  const std::uint8_t* expected = frames[0].data;
  for (const FrameView& frame : frames) {
    if (frame.data != expected || (stride_of(frame) != row_bytes(frame) && frame.height > 1)) return false;
    expected += frame_bytes(frame);
  }
  return true;
}

void pack(Span<const FrameView> frames, std::uint8_t* destination) noexcept {
  for (const FrameView& frame : frames) {
    const std::size_t bytes = row_bytes(frame), stride = stride_of(frame);
    if (stride == bytes) {
      std::memcpy(destination, frame.data, bytes * frame.height);
      destination += bytes * frame.height;
      continue;
    }
    for (std::size_t y = 0; y < frame.height; ++y, destination += bytes) {
      std::memcpy(destination, frame.data + y * stride, bytes);
    }
  }
}

}  // namespace lrp_edge

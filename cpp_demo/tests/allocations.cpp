/// lrp_edge_allocations MODEL FRAMES: counts heap allocations of calls of lrp_edge and of ONNX Runtime alone.
///
/// Prints a line for each way of giving frames: its name, allocations of FRAMES calls of lrp_edge, and of as many calls
/// of Ort::Session::Run with the same tensors. What they differ by is lrp_edge's own.

#include "plain_session.hpp"

#include <lrp_edge.h>
#include <lrp_edge/lrp_edge.hpp>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <string>
#include <vector>

// The C library's own, behind the functions below, through which all of this process and its libraries allocate.
extern "C" void* __libc_malloc(std::size_t);
extern "C" void* __libc_calloc(std::size_t, std::size_t);
extern "C" void* __libc_realloc(void*, std::size_t);
extern "C" void* __libc_memalign(std::size_t, std::size_t);

namespace {

std::atomic<std::uint64_t> allocations{0};

}  // namespace

extern "C" void* malloc(std::size_t size) {
  ++allocations;
  return __libc_malloc(size);
}

extern "C" void* calloc(std::size_t count, std::size_t size) {
  ++allocations;
  return __libc_calloc(count, size);
}

extern "C" void* realloc(void* memory, std::size_t size) {
  ++allocations;
  return __libc_realloc(memory, size);
}

extern "C" void* memalign(std::size_t alignment, std::size_t size) {
  ++allocations;
  return __libc_memalign(alignment, size);
}

extern "C" void* aligned_alloc(std::size_t alignment, std::size_t size) {
  return memalign(alignment, size);
}

extern "C" int posix_memalign(void** memory, std::size_t alignment, std::size_t size) {
  *memory = memalign(alignment, size);
  return *memory == nullptr ? 12 : 0;
}

namespace {

using lrp_edge::FrameView;

constexpr std::size_t kHeight = 48, kWidth = 64, kChannels = 3, kGap = 5, kBatch = 3, kRing = 8;
constexpr std::size_t kBytes = kHeight * (kWidth * kChannels + kGap);

std::uint64_t count(std::size_t times, const std::function<void(std::size_t)>& call) {
  for (std::size_t i = 0; i < kRing; ++i) call(i);
  const std::uint64_t before = allocations;
  for (std::size_t i = 0; i < times; ++i) call(i);
  return allocations - before;
}

/// Frames of noise, so that masks have many regions; never twice the same memory in succession.
std::vector<std::uint8_t> noise(std::size_t bytes) {
  std::vector<std::uint8_t> values(bytes);
  std::uint32_t state = 1;
  for (std::uint8_t& value : values) {
    state = state * 1664525U + 1013904223U;
    value = static_cast<std::uint8_t>(state >> 24U);
  }
  return values;
}

FrameView frame_at(const std::uint8_t* data, std::ptrdiff_t stride) {
  return {data, kHeight, kWidth, kChannels, stride};
}

void report(const std::string& name, std::uint64_t ours, std::uint64_t plain) {
  std::cout << name << " " << ours << " " << plain << std::endl;
}

void count_all(const std::string& model, std::size_t times) {
  lrp_edge::Options options;
  options.provider = "cpu";
  options.threads = 1;
  lrp_edge::Segmenter segmenter(model, options);
  const auto classes = static_cast<std::int64_t>(segmenter.card().classes.size());
  std::vector<std::uint8_t> memory = noise(kRing * kBatch * kBytes);
  const auto at = [&](std::size_t i) { return memory.data() + i % kRing * kBatch * kBytes; };
  constexpr auto stride = static_cast<std::ptrdiff_t>(kWidth * kChannels + kGap);

  PlainSession one(model, memory.data(), {1, kHeight, kWidth, kChannels}, classes);
  const std::uint64_t plain = count(times, [&](std::size_t) { one.run(); });
  report("contiguous", count(times, [&](std::size_t i) { segmenter.run(frame_at(at(i), 0)); }), plain);
  report("strided", count(times, [&](std::size_t i) { segmenter.run(frame_at(at(i), stride)); }), plain);

  PlainSession several(model, memory.data(), {kBatch, kHeight, kWidth, kChannels}, classes);
  std::array<FrameView, kBatch> frames;
  const auto batch = [&](std::size_t i) {
    for (std::size_t k = 0; k < kBatch; ++k) frames[k] = frame_at(at(i) + k * kBytes, stride);
    segmenter.run(frames);
  };
  const std::uint64_t plain_batch = count(times, [&](std::size_t) { several.run(); });
  report("batch", count(times, batch), plain_batch);

  const auto in_turns = [&](std::size_t i) { i % 2 == 0 ? batch(i) : void(segmenter.run(frame_at(at(i), 0))); };
  report("in-turns", count(times, in_turns), (plain + plain_batch) / 2);

  lrp_edge_segmenter* handle = nullptr;
  const lrp_edge_options c_options = {sizeof(lrp_edge_options), "cpu", 1, 1, 1};
  if (lrp_edge_create(model.c_str(), &c_options, &handle) != LRP_EDGE_OK) std::exit(1);
  const auto in_c = [&](std::size_t i) {
    const lrp_edge_frame frame = {sizeof(lrp_edge_frame), at(i), kHeight, kWidth, kChannels, 0};
    lrp_edge_result result = LRP_EDGE_RESULT_INIT;
    if (lrp_edge_run(handle, &frame, &result) != LRP_EDGE_OK || result.region_count == 0) std::exit(1);
  };
  report("c", count(times, in_c), plain);
  lrp_edge_destroy(handle);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) return 2;
  count_all(argv[1], std::strtoul(argv[2], nullptr, 10));
  return 0;
}

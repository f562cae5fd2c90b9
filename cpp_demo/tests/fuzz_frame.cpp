/// libFuzzer: any numbers as frames, through the C interface, on the model that LRP_EDGE_FUZZ_MODEL names.
///
/// A frame's memory ends where its last row does, so that AddressSanitizer sees any read beyond it.

#include <lrp_edge.h>

#include <fuzzer/FuzzedDataProvider.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

namespace {

constexpr std::size_t kMostBytes = 1U << 14U;

struct Destroy {
  void operator()(lrp_edge_segmenter* segmenter) const noexcept { lrp_edge_destroy(segmenter); }
};
using Segmenter = std::unique_ptr<lrp_edge_segmenter, Destroy>;

Segmenter open() {
  const lrp_edge_options options = {sizeof(lrp_edge_options), "cpu", 1, 1, 1};
  lrp_edge_segmenter* opened = nullptr;
  if (lrp_edge_create(std::getenv("LRP_EDGE_FUZZ_MODEL"), &options, &opened) != LRP_EDGE_OK) {
    std::fprintf(stderr, "LRP_EDGE_FUZZ_MODEL: %s\n", lrp_edge_last_error(nullptr));
    std::exit(1);
  }
  return Segmenter(opened);
}

/// Small mostly, sometimes anything.
template <class T>
T extent(FuzzedDataProvider& data, T most) {
  return data.ConsumeIntegralInRange<int>(0, 7) != 0 ? data.ConsumeIntegralInRange<T>(0, most)
                                                     : data.ConsumeIntegral<T>();
}

/// Bytes that a frame says it has; no number if they cannot be counted.
bool bytes_of(const lrp_edge_frame& frame, std::size_t& bytes) {
  std::size_t row = 0, stride = 0, before = 0;
  if (__builtin_mul_overflow(frame.width, frame.channels, &row)) return false;
  stride = frame.stride > 0 ? static_cast<std::size_t>(frame.stride) : row;
  if (__builtin_mul_overflow(stride, frame.height > 0 ? frame.height - 1 : 0, &before)) return false;
  return !__builtin_add_overflow(before, row, &bytes);
}

/// Whether lrp_edge must see by itself that there is no such frame.
bool is_refused(const lrp_edge_frame& frame) {
  return frame.channels != 3 || frame.stride < 0 || frame.height == 0 || frame.width == 0;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  static const Segmenter segmenter = open();
  FuzzedDataProvider data(bytes, size);
  const std::size_t count = data.ConsumeIntegralInRange<std::size_t>(0, 4);
  std::vector<lrp_edge_frame> frames;
  std::vector<std::vector<std::uint8_t>> memory;
  for (std::size_t i = 0; i < count; ++i) {
    lrp_edge_frame frame = LRP_EDGE_FRAME_INIT;
    const bool as_before = !frames.empty() && data.ConsumeIntegralInRange<int>(0, 3) != 0;
    frame.height = extent<std::size_t>(data, 20);
    frame.width = extent<std::size_t>(data, 20);
    frame.channels = data.ConsumeBool() ? 3 : extent<std::size_t>(data, 4);
    if (as_before) frame = frames.back();
    frame.stride = data.ConsumeBool() ? 0 : extent<std::ptrdiff_t>(data, 80);
    std::size_t needed = 0;
    const bool countable = bytes_of(frame, needed);
    // A frame that only lies about its memory cannot be distinguished from a good one.
    if (!is_refused(frame) && countable && needed > kMostBytes) return -1;
    memory.emplace_back(countable && needed <= kMostBytes ? needed : 0);
    const auto some = data.ConsumeBytes<std::uint8_t>(memory.back().size());
    if (!some.empty()) std::memcpy(memory.back().data(), some.data(), some.size());
    frame.data = memory.back().data();
    frames.push_back(frame);
  }
  std::vector<lrp_edge_result> results(count, lrp_edge_result LRP_EDGE_RESULT_INIT);
  const lrp_edge_status status = lrp_edge_run_batch(segmenter.get(), frames.data(), count, results.data());
  if (status != LRP_EDGE_OK && status != LRP_EDGE_ERROR) std::abort();
  for (std::size_t i = 0; status == LRP_EDGE_OK && i < count; ++i) {
    const lrp_edge_result& result = results[i];
    if (result.height != frames[i].height || result.width != frames[i].width) std::abort();
    std::int64_t area = 0, set = 0;
    for (std::size_t k = 0; k < result.region_count; ++k) area += result.regions[k].area;
    for (std::size_t k = 0; k < result.height * result.width; ++k) set += result.mask[k] != 0 ? 1 : 0;
    if (area != set) std::abort();
  }
  return 0;
}

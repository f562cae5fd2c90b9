#include "regions.hpp"

#include <lrp_edge.h>
#include <lrp_edge/error.hpp>
#include <lrp_edge/segmenter.hpp>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <exception>
#include <filesystem>
#include <memory>
#include <new>
#include <string>
#include <utility>
#include <vector>

static_assert(sizeof(lrp_edge_region) == 40 && sizeof(lrp_edge_frame) == 6 * sizeof(void*),
              "a structure of the C interface has another layout");

namespace {

constexpr std::size_t kUsualFrames = 64;

/// An error's text, for which there may be no memory.
class Message {
 public:
  void set(const char* text) noexcept {
    try {
      text_ = text;
    } catch (...) {
      text_.clear();
    }
  }
  const char* get() const noexcept { return text_.c_str(); }

 private:
  std::string text_;
};

Message& message_of_thread() noexcept {
  thread_local Message message;
  return message;
}

/// A mistake of who calls the C interface.
class BadArgument : public std::exception {
 public:
  explicit BadArgument(const char* text) : text_(text) {}
  const char* what() const noexcept override { return text_; }

 private:
  const char* text_;
};

void require(bool holds, const char* text) {
  if (!holds) throw BadArgument(text);
}

/// Call a function, and turn what it throws into a status and a message.
template <class Function>
lrp_edge_status guarded(Message& message, Function function) noexcept {
  try {
    function();
    return LRP_EDGE_OK;
  } catch (const lrp_edge::Error& error) {
    message.set(error.what());
    return LRP_EDGE_ERROR;
  } catch (const BadArgument& error) {
    message.set(error.what());
    return LRP_EDGE_BAD_ARGUMENT;
  } catch (const std::bad_alloc&) {
    message.set("out of memory");
    return LRP_EDGE_OUT_OF_MEMORY;
  } catch (const std::exception& error) {
    message.set(error.what());
  } catch (...) {
    message.set("unknown error");
  }
  return LRP_EDGE_INTERNAL;
}

/// Copy a caller's structure of an older or newer version: what it does not have keeps its default.
template <class Structure>
Structure read(const void* source, std::size_t size, Structure value) {
  std::memcpy(&value, source, std::min(size, sizeof(Structure)));
  return value;
}

/// The other way: nothing is written beyond the caller's size, and that size is not changed.
template <class Structure>
void write(void* destination, std::size_t size, Structure value) {
  value.struct_size = size;
  std::memcpy(destination, &value, std::min(size, sizeof(Structure)));
}

/// All that version 1 of a structure has is required.
template <class Structure>
void require_size(const Structure* structure, const char* text) {
  require(structure != nullptr && structure->struct_size >= sizeof(Structure), text);
}

lrp_edge::Options options_from(const lrp_edge_options* given) {
  lrp_edge::Options options;
  if (given == nullptr) return options;
  require_size(given, "options.struct_size is not set; begin with LRP_EDGE_OPTIONS_INIT");
  const auto read_options = read<lrp_edge_options>(given, given->struct_size, LRP_EDGE_OPTIONS_INIT);
  if (read_options.provider != nullptr) options.provider = read_options.provider;
  options.threads = read_options.threads;
  options.regions = read_options.regions != 0;
  options.min_area = read_options.min_area;
  return options;
}

}  // namespace

struct lrp_edge_segmenter {
  explicit lrp_edge_segmenter(lrp_edge::Segmenter opened) : segmenter(std::move(opened)) {
    frames.reserve(std::min(segmenter.card().largest_batch(), kUsualFrames));
    regions.reserve(lrp_edge::kUsualRegions);
  }

  lrp_edge::Segmenter segmenter;
  Message message;
  std::vector<lrp_edge::FrameView> frames;
  std::vector<lrp_edge_region> regions;
};

namespace {

using Handle = lrp_edge_segmenter;
using Results = lrp_edge::Span<const lrp_edge::Result>;

/// Read the caller's frames. What is more than the model takes is not read: it may not be there.
void read_frames(Handle& handle, const lrp_edge_frame* frames, std::size_t count) {
  require_size(frames, "frame is null, or its struct_size is not set; begin with LRP_EDGE_FRAME_INIT");
  const std::size_t size = frames->struct_size;
  const auto* const bytes = reinterpret_cast<const std::byte*>(frames);
  handle.frames.clear();
  for (std::size_t i = 0; i < std::min(count, handle.segmenter.card().largest_batch()); ++i) {
    const auto frame = read<lrp_edge_frame>(bytes + i * size, size, LRP_EDGE_FRAME_INIT);
    handle.frames.push_back({frame.data, frame.height, frame.width, frame.channels, frame.stride});
  }
}

/// Copy the regions of all frames behind each other.
void copy_regions(Handle& handle, Results results) {
  handle.regions.clear();
  for (const lrp_edge::Result& result : results) {
    for (const lrp_edge::Region& region : result.regions) {
      handle.regions.push_back(
          {region.x, region.y, region.width, region.height, region.area, region.extent, region.relevance});
    }
  }
}

lrp_edge_result in_c(const lrp_edge::Result& result, const lrp_edge_region* regions) {
  return {sizeof(lrp_edge_result),
          result.label,
          result.defect ? 1 : 0,
          result.name.data(),
          result.scores.data(),
          result.scores.size(),
          result.mask.height,
          result.mask.width,
          result.mask.data,
          result.relevance.data,
          regions,
          result.regions.size(),
          result.milliseconds};
}

void run(Handle& handle, const lrp_edge_frame* frames, std::size_t count, lrp_edge_result* destination) {
  if (count == 0) return;
  read_frames(handle, frames, count);
  require_size(destination, "result is null, or its struct_size is not set; begin with LRP_EDGE_RESULT_INIT");
  const std::size_t size = destination->struct_size;
  const Results results = handle.segmenter.run({handle.frames.data(), count});
  copy_regions(handle, results);
  auto* const bytes = reinterpret_cast<std::byte*>(destination);
  const lrp_edge_region* regions = handle.regions.data();
  for (std::size_t i = 0; i < results.size(); ++i) {
    write(bytes + i * size, size, in_c(results[i], regions));
    regions += results[i].regions.size();
  }
}

lrp_edge_info describe(const Handle& handle) {
  const lrp_edge::Card& card = handle.segmenter.card();
  const lrp_edge::Size size = card.input.size.value_or(lrp_edge::Size{});
  return {sizeof(lrp_edge_info),
          handle.segmenter.provider().c_str(),
          card.json.c_str(),
          card.input.order.c_str(),
          card.input.channels(),
          size.height,
          size.width,
          card.largest_batch(),
          card.classes.size()};
}

constexpr const char* kNoSegmenter = "segmenter is null; make one with lrp_edge_create";

}  // namespace

const char* lrp_edge_version(void) noexcept {
  return LRP_EDGE_VERSION;
}

std::int32_t lrp_edge_abi_version(void) noexcept {
  return LRP_EDGE_ABI_VERSION;
}

lrp_edge_status lrp_edge_create(const char* path, const lrp_edge_options* options,
                                lrp_edge_segmenter** segmenter) noexcept {
  return guarded(message_of_thread(), [&] {
    require(segmenter != nullptr, "there is no place for the handle; give a pointer to one");
    *segmenter = nullptr;
    require(path != nullptr, "path is null; give that of a model");
    auto opened = lrp_edge::Segmenter(std::filesystem::u8path(path), options_from(options));
    *segmenter = std::make_unique<Handle>(std::move(opened)).release();
  });
}

void lrp_edge_destroy(lrp_edge_segmenter* segmenter) noexcept {
  const std::unique_ptr<Handle> owner(segmenter);
}

lrp_edge_status lrp_edge_get_info(lrp_edge_segmenter* segmenter, lrp_edge_info* info) noexcept {
  return guarded(segmenter != nullptr ? segmenter->message : message_of_thread(), [&] {
    require(segmenter != nullptr, kNoSegmenter);
    require_size(info, "info is null, or its struct_size is not set; begin with LRP_EDGE_INFO_INIT");
    write(info, info->struct_size, describe(*segmenter));
  });
}

const char* lrp_edge_class_name(const lrp_edge_segmenter* segmenter, std::size_t index) noexcept {
  if (segmenter == nullptr) return nullptr;
  const std::vector<std::string>& classes = segmenter->segmenter.card().classes;
  return index < classes.size() ? classes[index].c_str() : nullptr;
}

lrp_edge_status lrp_edge_run(lrp_edge_segmenter* segmenter, const lrp_edge_frame* frame,
                             lrp_edge_result* result) noexcept {
  return lrp_edge_run_batch(segmenter, frame, 1, result);
}

lrp_edge_status lrp_edge_run_batch(lrp_edge_segmenter* segmenter, const lrp_edge_frame* frames, std::size_t count,
                                   lrp_edge_result* results) noexcept {
  return guarded(segmenter != nullptr ? segmenter->message : message_of_thread(), [&] {
    require(segmenter != nullptr, kNoSegmenter);
    run(*segmenter, frames, count, results);
  });
}

const char* lrp_edge_last_error(const lrp_edge_segmenter* segmenter) noexcept {
  return segmenter != nullptr ? segmenter->message.get() : message_of_thread().get();
}

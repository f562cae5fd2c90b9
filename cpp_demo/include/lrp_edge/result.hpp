/// @file
/// What a model says of a frame.
#ifndef LRP_EDGE_RESULT_HPP
#define LRP_EDGE_RESULT_HPP

#include <lrp_edge/views.hpp>

#include <cstdint>
#include <string_view>

namespace lrp_edge {

/// A connected region of a mask; pixels that touch at a corner are connected.
struct Region {
  std::int32_t x = 0;       ///< Left edge of the bounding box in pixels, from the frame's upper left corner.
  std::int32_t y = 0;       ///< Upper edge of the bounding box.
  std::int32_t width = 0;   ///< Of the bounding box.
  std::int32_t height = 0;  ///< Of the bounding box.
  std::int64_t area = 0;    ///< Pixels.
  double extent = 0;        ///< Greatest distance of two points of its outline in pixels (maximum Feret diameter).
  double relevance = 0;     ///< Mean relevance of its pixels.
};

/// Class and mask of one frame.
///
/// All views point into buffers of the Segmenter that are reused: they are valid until the next run of that
/// Segmenter, and no longer than the Segmenter itself. Copy what you need to keep.
struct Result {
  std::int32_t label = 0;        ///< Index of the decided class.
  std::string_view name;         ///< Its name in UTF-8; holds as long as the Segmenter.
  bool defect = false;           ///< Whether it counts as a defect.
  Span<const float> scores;      ///< Score of each class.
  PlaneView<std::uint8_t> mask;  ///< 255 where the defect is, else 0; of the frame's size.
  PlaneView<float> relevance;    ///< Relevance of each pixel for the explained class; of the frame's size.
  Span<const Region> regions;    ///< Of the mask, by falling area; of equal ones the upper, then the left first.
  double milliseconds = 0;       ///< Time of the engine's call, divided by the frames in it.
};

}  // namespace lrp_edge

#endif

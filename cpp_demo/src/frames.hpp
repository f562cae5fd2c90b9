/// @file
/// Frames, checked before they reach an engine, and converted to the layout that it takes.
#ifndef LRP_EDGE_SRC_FRAMES_HPP
#define LRP_EDGE_SRC_FRAMES_HPP

#include <lrp_edge/card.hpp>
#include <lrp_edge/views.hpp>

#include <cstddef>
#include <cstdint>

namespace lrp_edge {

/// Compare frames of one call with what a model takes.
/// @throws Error If one has another shape or size, a stride that cannot be, or no data; if there are too many, or their
///   sizes differ.
void check_frames(Span<const FrameView> frames, const Card& card);

/// Bytes of one frame without gaps.
std::size_t frame_bytes(const FrameView& frame) noexcept;

/// Whether frames lie in memory as one uint8 [N, H, W, C] without gaps.
bool are_adjacent(Span<const FrameView> frames) noexcept;

/// Copy frames that have been checked behind each other, without gaps.
/// @param destination Room for as many times `frame_bytes()` as there are frames.
void pack(Span<const FrameView> frames, std::uint8_t* destination) noexcept;

}  // namespace lrp_edge

#endif

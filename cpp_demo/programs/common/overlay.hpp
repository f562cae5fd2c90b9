/// @file
/// A frame with its verdict drawn on it.
#ifndef LRP_EDGE_PROGRAMS_COMMON_OVERLAY_HPP
#define LRP_EDGE_PROGRAMS_COMMON_OVERLAY_HPP

#include <lrp_edge/lrp_edge.hpp>

#include <opencv2/core/mat.hpp>

#include <string>

namespace programs {

/// Draw mask, regions and class on a frame.
/// @param frame uint8 [H, W, C] in a model's channel order.
/// @return BGR; small frames enlarged by a whole factor, a strip with class and score on top.
cv::Mat draw_overlay(const lrp_edge::FrameView& frame, const std::string& order, const lrp_edge::Result& result);

/// View a plane of a result as an image, without a copy.
cv::Mat as_image(const lrp_edge::PlaneView<std::uint8_t>& plane);

/// View a frame as an image, without a copy.
cv::Mat as_image(const lrp_edge::FrameView& frame);

}  // namespace programs

#endif

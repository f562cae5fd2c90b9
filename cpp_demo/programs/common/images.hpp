/// @file
/// Image files as frames.
#ifndef LRP_EDGE_PROGRAMS_COMMON_IMAGES_HPP
#define LRP_EDGE_PROGRAMS_COMMON_IMAGES_HPP

#include <lrp_edge/lrp_edge.hpp>

#include <opencv2/core/mat.hpp>

#include <filesystem>
#include <string>
#include <vector>

namespace programs {

/// List images: files as they are given, folders searched deeply and sorted.
/// @throws lrp_edge::Error If a file is not there, or a folder has no image.
std::vector<std::filesystem::path> find_images(const std::vector<std::string>& places);

/// Read an image in a model's channel order.
/// @return uint8 [H, W, C].
/// @throws lrp_edge::Error If the file cannot be read, is cut short or is not an image.
cv::Mat read_image(const std::filesystem::path& path, const std::string& order);

/// Whether a BGR or gray image already has a channel order.
bool is_in_order(const cv::Mat& image, const std::string& order);

/// Convert a BGR or gray image that is not.
/// @param target Its memory is used again if it has the size.
void convert(const cv::Mat& image, const std::string& order, cv::Mat& target);

/// View an image as a frame, without a copy.
lrp_edge::FrameView view(const cv::Mat& image) noexcept;

}  // namespace programs

#endif

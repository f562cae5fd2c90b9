#include "common/images.hpp"

#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>

#include <algorithm>
#include <array>
#include <cctype>
#include <fstream>
#include <string_view>
#include <system_error>

namespace programs {
namespace {

namespace fs = std::filesystem;
using lrp_edge::Error;

bool is_image(const fs::path& path) {
  constexpr std::array<std::string_view, 7> kSuffixes{".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"};
  std::string suffix = path.extension().string();
  std::transform(suffix.begin(), suffix.end(), suffix.begin(),
                 [](unsigned char letter) { return static_cast<char>(std::tolower(letter)); });
  return std::find(kSuffixes.begin(), kSuffixes.end(), suffix) != kSuffixes.end();
}

std::vector<fs::path> images_below(const fs::path& folder) {
  std::vector<fs::path> found;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file() && is_image(entry.path())) found.push_back(entry.path());
  }
  if (found.empty()) throw Error(folder.string() + " has no images; expected a folder of images");
  std::sort(found.begin(), found.end());
  return found;
}

/// Search after the start of the first scan: a thumbnail before it has its own end marker.
bool has_jpeg_end(std::string_view data) {
  const auto byte = [data](std::size_t at) { return static_cast<unsigned char>(data[at]); };
  std::size_t at = 2;
  while (at + 4 <= data.size() && byte(at) == 0xff) {
    if (byte(at + 1) == 0xda) return data.find("\xff\xd9", at) != std::string_view::npos;
    at += byte(at + 1) == 0xff ? 1U : 2U + byte(at + 2) * 256U + byte(at + 3);
  }
  return false;
}

/// Whether a PNG or JPEG lacks its end: OpenCV decodes what is there, and leaves the rest gray or black.
bool is_cut_short(std::string_view data) {
  if (data.substr(0, 4) == "\x89PNG") return data.find("IEND\xae\x42\x60\x82") == std::string_view::npos;
  return data.substr(0, 3) == "\xff\xd8\xff" && !has_jpeg_end(data);
}

}  // namespace

std::vector<fs::path> find_images(const std::vector<std::string>& places) {
  std::vector<fs::path> found;
  for (const std::string& place : places) {
    std::error_code ignored;
    if (fs::is_directory(place, ignored)) {
      const auto more = images_below(place);
      found.insert(found.end(), more.begin(), more.end());
    } else if (fs::is_regular_file(place, ignored)) {
      found.emplace_back(place);
    } else {
      throw Error("no image or folder at " + place);
    }
  }
  return found;
}

cv::Mat read_image(const fs::path& path, const std::string& order) {
  std::error_code failed;
  const auto size = fs::file_size(path, failed);
  std::string data(failed ? 0 : static_cast<std::size_t>(size), '\0');
  std::ifstream file(path, std::ios::binary);
  file.read(data.data(), static_cast<std::streamsize>(data.size()));
  if (failed || !file) throw Error(path.string() + " cannot be read; check its permissions");
  if (is_cut_short(data)) throw Error(path.string() + " is cut short; fix or remove it");
  const cv::Mat bytes(1, static_cast<int>(data.size()), CV_8UC1, data.data());
  cv::Mat image;
  if (!data.empty()) image = cv::imdecode(bytes, order == "GRAY" ? cv::IMREAD_GRAYSCALE : cv::IMREAD_COLOR);
  if (image.empty()) throw Error(path.string() + " is not an image that OpenCV can decode");
  if (is_in_order(image, order)) return image;
  cv::Mat target;
  convert(image, order, target);
  return target;
}

bool is_in_order(const cv::Mat& image, const std::string& order) {
  return order == (image.channels() == 1 ? "GRAY" : "BGR");
}

void convert(const cv::Mat& image, const std::string& order, cv::Mat& target) {
  const bool gray = image.channels() == 1;
  // Gray repeated is BGR and RGB alike.
  const auto code = gray ? cv::COLOR_GRAY2BGR : order == "GRAY" ? cv::COLOR_BGR2GRAY : cv::COLOR_BGR2RGB;
  cv::cvtColor(image, target, code);
}

lrp_edge::FrameView view(const cv::Mat& image) noexcept {
  return {image.data, static_cast<std::size_t>(image.rows), static_cast<std::size_t>(image.cols),
          static_cast<std::size_t>(image.channels()), static_cast<std::ptrdiff_t>(image.step)};
}

}  // namespace programs

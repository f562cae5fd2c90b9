#include "common/overlay.hpp"

#include <opencv2/imgproc.hpp>

#include <algorithm>
#include <cmath>
#include <vector>

namespace programs {
namespace {

const cv::Scalar kOk(96, 150, 40), kDefect(48, 48, 214), kText(255, 255, 255), kTint(40, 40, 255), kBox(0, 220, 255);
constexpr int kSmallestSide = 320, kHeader = 28;
constexpr std::size_t kMostBoxes = 50;
constexpr int kFont = cv::FONT_HERSHEY_SIMPLEX;

cv::Mat to_bgr(const cv::Mat& frame, const std::string& order) {
  cv::Mat bgr;
  if (order == "GRAY") {
    cv::cvtColor(frame, bgr, cv::COLOR_GRAY2BGR);
  } else if (order == "RGB") {
    cv::cvtColor(frame, bgr, cv::COLOR_RGB2BGR);
  } else {
    frame.copyTo(bgr);
  }
  return bgr;
}

void tint(cv::Mat& canvas, const cv::Mat& mask, int thickness) {
  if (cv::countNonZero(mask) == 0) return;
  cv::Mat tinted;
  cv::addWeighted(canvas, 0.65, cv::Mat(canvas.size(), canvas.type(), kTint), 0.35, 0, tinted);
  tinted.copyTo(canvas, mask);
  std::vector<std::vector<cv::Point>> contours;
  cv::findContours(mask, contours, cv::RETR_EXTERNAL, cv::CHAIN_APPROX_NONE);
  cv::drawContours(canvas, contours, -1, kTint, thickness, cv::LINE_AA);
}

void box(cv::Mat& canvas, const lrp_edge::Region& region, int factor, int thickness) {
  const cv::Rect outline(region.x * factor, region.y * factor, region.width * factor, region.height * factor);
  cv::rectangle(canvas, outline, kBox, thickness);
  const std::string size = std::to_string(region.area) + " px";
  const double scale = 0.4 * std::max(1.0, std::max(canvas.rows, canvas.cols) / 800.0);
  const cv::Size space = cv::getTextSize(size, kFont, scale, thickness, nullptr);
  const int x = std::max(0, std::min(outline.x, canvas.cols - space.width));
  const int y =
      outline.y - 4 >= space.height ? outline.y - 4 : std::min(outline.br().y + space.height + 4, canvas.rows - 2);
  cv::putText(canvas, size, {x, y}, kFont, scale, cv::Scalar(), thickness + 2, cv::LINE_AA);
  cv::putText(canvas, size, {x, y}, kFont, scale, kBox, thickness, cv::LINE_AA);
}

void head(cv::Mat strip, const lrp_edge::Result& result) {
  strip.setTo(result.defect ? kDefect : kOk);
  const auto percent = static_cast<int>(std::lround(result.scores[static_cast<std::size_t>(result.label)] * 100));
  const std::string score = std::to_string(percent) + "%", title(result.name);
  const int score_width = cv::getTextSize(score, kFont, 0.5, 1, nullptr).width;
  const int title_width = std::max(1, cv::getTextSize(title, kFont, 0.5, 1, nullptr).width);
  const double scale = std::min(0.5, 0.5 * std::max(1, strip.cols - score_width - 28) / title_width);
  cv::putText(strip, title, {8, 19}, kFont, scale, kText, 1, cv::LINE_AA);
  cv::putText(strip, score, {strip.cols - score_width - 8, 19}, kFont, 0.5, kText, 1, cv::LINE_AA);
}

}  // namespace

cv::Mat draw_overlay(const lrp_edge::FrameView& frame, const std::string& order, const lrp_edge::Result& result) {
  cv::Mat canvas = to_bgr(as_image(frame), order), mask = as_image(result.mask);
  const int largest = std::max(canvas.rows, canvas.cols);
  const int factor = std::max(1, (kSmallestSide + largest - 1) / largest);
  if (factor > 1) {
    cv::resize(canvas, canvas, {}, factor, factor, cv::INTER_CUBIC);
    cv::Mat enlarged;
    cv::resize(mask, enlarged, {}, factor, factor, cv::INTER_NEAREST);
    mask = enlarged;
  }
  cv::Mat picture(canvas.rows + kHeader, canvas.cols, canvas.type());
  cv::Mat below = picture.rowRange(kHeader, picture.rows);
  canvas.copyTo(below);
  const int thickness = std::max(1, std::max(canvas.rows, canvas.cols) / 400);
  tint(below, mask, thickness);
  for (std::size_t i = 0; i < std::min(result.regions.size(), kMostBoxes); ++i) {
    box(below, result.regions[i], factor, thickness);
  }
  head(picture.rowRange(0, kHeader), result);
  return picture;
}

cv::Mat as_image(const lrp_edge::PlaneView<std::uint8_t>& plane) {
  return as_image(lrp_edge::FrameView{plane.data, plane.height, plane.width, 1, 0});
}

cv::Mat as_image(const lrp_edge::FrameView& frame) {
  const std::size_t step = frame.stride == 0 ? frame.width * frame.channels : static_cast<std::size_t>(frame.stride);
  return cv::Mat(static_cast<int>(frame.height), static_cast<int>(frame.width),
                 CV_MAKETYPE(CV_8U, static_cast<int>(frame.channels)), const_cast<std::uint8_t*>(frame.data), step);
}

}  // namespace programs

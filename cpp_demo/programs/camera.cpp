#include "camera.hpp"

#include "common/images.hpp"
#include "common/interrupt.hpp"

#include <lrp_edge/error.hpp>

#include <opencv2/core/utils/logger.hpp>

#include <cstdlib>
#include <utility>

namespace programs {
namespace {

bool is_number(const std::string& text) {
  return !text.empty() && text.size() < 4 && text.find_first_not_of("0123456789") == std::string::npos;
}

bool open(cv::VideoCapture& capture, const std::string& source) {
  return is_number(source) ? capture.open(std::stoi(source)) : capture.open(source);
}

}  // namespace

Camera::Camera(CameraOptions options) : options_(std::move(options)) {
  // Silences OpenCV's report on every backend that it tried; the error below says what matters.
  if (std::getenv("OPENCV_LOG_LEVEL") == nullptr) cv::utils::logging::setLogLevel(cv::utils::logging::LOG_LEVEL_SILENT);
  if (!open(capture_, options_.source)) {
    throw lrp_edge::Error("source " + options_.source +
                          " cannot be opened; expected a camera's number, a stream, a video or images");
  }
  if (options_.height > 0) {
    capture_.set(cv::CAP_PROP_FRAME_HEIGHT, options_.height);
    capture_.set(cv::CAP_PROP_FRAME_WIDTH, options_.width);
  }
  thread_ = std::thread([this] { read(); });
}

Camera::~Camera() {
  stop();
}

void Camera::stop() {
  stopped_ = true;
  slot_.close();
  if (!thread_.joinable()) return;
  thread_.join();
  CameraFrame left;
  if (slot_.take(left)) ++dropped_;
}

bool Camera::next(CameraFrame& frame) {
  if (slot_.take(frame)) return true;
  if (failure_ != nullptr) std::rethrow_exception(failure_);
  return false;
}

void Camera::read() {
  CameraFrame frame;
  try {
    while (read_one(frame)) {
      if (slot_.put(frame, options_.lossless)) ++dropped_;
    }
  } catch (...) {
    failure_ = std::current_exception();
  }
  slot_.close();
}

bool Camera::read_one(CameraFrame& frame) {
  const bool enough = options_.frames != 0 && captured_ == options_.frames;
  if (enough || stopped_ || interrupted()) return false;
  if (!capture_.read(raw_) || raw_.empty()) {
    const bool ended = stopped_ || interrupted() || (captured_ > 0 && !is_live());
    if (ended) return false;
    throw lrp_edge::Error("source " + options_.source + (captured_ > 0 ? " gives no more frames" : " gives no frame") +
                          "; check the camera");
  }
  frame.info = {captured_, frame_source()};
  if (is_in_order(raw_, options_.order)) {
    cv::swap(raw_, frame.image);
  } else {
    convert(raw_, options_.order, frame.image);
  }
  ++captured_;
  return true;
}

bool Camera::is_live() const {
  return is_number(options_.source) || options_.source.find("://") != std::string::npos;
}

std::string Camera::frame_source() const {
  return is_live() ? options_.source : options_.source + "#" + std::to_string(captured_);
}

}  // namespace programs

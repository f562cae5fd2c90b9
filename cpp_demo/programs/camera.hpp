/// @file
/// A camera, stream or file read through OpenCV, in its own thread.
#ifndef LRP_EDGE_PROGRAMS_CAMERA_HPP
#define LRP_EDGE_PROGRAMS_CAMERA_HPP

#include "common/json_lines.hpp"
#include "latest_slot.hpp"

#include <opencv2/core/mat.hpp>
#include <opencv2/videoio.hpp>

#include <atomic>
#include <cstdint>
#include <exception>
#include <string>
#include <thread>

namespace programs {

/// Camera settings.
struct CameraOptions {
  std::string source = "0";  ///< Number of a camera, address of a stream, video file, or pattern of images.
  std::string order;         ///< Channel order of the frames.
  int height = 0;            ///< 0 for the camera's own.
  int width = 0;
  std::uint64_t frames = 0;  ///< Most frames; 0 for all.
  bool lossless = false;     ///< Whether the source has to wait for the engine.
};

/// A frame in flight.
struct CameraFrame {
  FrameInfo info;
  cv::Mat image;
};

/// Reads ahead while earlier frames are processed; of the frames not taken in time, the newest is kept.
class Camera {
 public:
  /// @throws lrp_edge::Error If it cannot be opened.
  explicit Camera(CameraOptions options);
  Camera(const Camera&) = delete;
  Camera& operator=(const Camera&) = delete;
  ~Camera();

  /// Wait for the next frame.
  /// @param frame Its memory is reused.
  /// @return False at the end.
  /// @throws lrp_edge::Error If reading failed.
  bool next(CameraFrame& frame);

  /// Stop reading, after the frame that is being read; one that still waits is dropped.
  void stop();

  std::uint64_t captured() const noexcept { return captured_; }
  std::uint64_t dropped() const noexcept { return dropped_; }

 private:
  void read();
  bool read_one(CameraFrame& frame);
  bool is_live() const;
  std::string frame_source() const;

  CameraOptions options_;
  cv::VideoCapture capture_;
  cv::Mat raw_;
  LatestSlot<CameraFrame> slot_;
  std::atomic<bool> stopped_{false};
  std::atomic<std::uint64_t> captured_{0}, dropped_{0};
  std::exception_ptr failure_;
  std::thread thread_;
};

}  // namespace programs

#endif

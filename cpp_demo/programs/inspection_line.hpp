/// @file
/// The shape of a real inspection loop: trigger, grab, infer with a deadline, verdict.
#ifndef LRP_EDGE_PROGRAMS_INSPECTION_LINE_HPP
#define LRP_EDGE_PROGRAMS_INSPECTION_LINE_HPP

#include <lrp_edge/lrp_edge.hpp>

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace programs {

/// Outcome of a part.
enum class Outcome {
  in_time,  ///< Its verdict is the model's, and was there before the deadline.
  late,     ///< It was not there at the deadline.
  missed    ///< No buffer was free when it came, or its frame was not the line's; it was never seen.
};

/// The verdict on a part. Anything not known to be good is rejected.
struct Verdict {
  std::uint64_t part = 0;  ///< Counted from 0, without gaps, in the order of the triggers.
  Outcome outcome = Outcome::missed;
  bool reject = true;
  std::string reason;                        ///< Why it is rejected; empty if it is not.
  std::chrono::microseconds latency{0};      ///< From the trigger to this verdict.
  lrp_edge::FrameView frame;                 ///< Of a part in time. Holds during the callback.
  const lrp_edge::Result* result = nullptr;  ///< Null unless in time and segmented. Holds during the callback.
};

/// How a line is run.
struct LineOptions {
  std::size_t height = 0;                 ///< Of the frames, in pixels.
  std::size_t width = 0;                  ///< Of the frames, in pixels.
  std::size_t buffers = 4;                ///< Frames that may be under way at once.
  std::chrono::microseconds deadline{0};  ///< From a trigger to its verdict.
};

/// Parts by outcome: `triggers = in_time + late + missed` once finished.
struct LineCounts {
  std::uint64_t triggers = 0, in_time = 0, late = 0, missed = 0;
  std::uint64_t failed = 0;    ///< Of those in time: the engine raised an error.
  std::uint64_t rejected = 0;  ///< Of all.
};

/// An inspection line around a model.
///
/// trigger() copies a frame into a ring of buffers and returns; inference and output have a thread each. Every part
/// gets exactly one verdict, in the order of the triggers and at its deadline at the latest, so that downstream part
/// counters (an ejector, a shift register) stay in step. A frame that waited beyond its deadline is no longer
/// inferred.
///
/// Threads: one thread triggers. The output callback is called by another one, and delays the verdicts that follow.
class InspectionLine {
 public:
  using Output = std::function<void(const Verdict&)>;

  /// Runs the model once, so that the first part does not wait for one-time initialisation.
  /// @param segmenter Must not be used elsewhere meanwhile.
  /// @param output Receives the verdicts; must not throw.
  /// @throws lrp_edge::Error If there are no buffers or no time, or the model does not take frames of the size.
  InspectionLine(lrp_edge::Segmenter& segmenter, const LineOptions& options, Output output);
  InspectionLine(const InspectionLine&) = delete;
  InspectionLine& operator=(const InspectionLine&) = delete;
  ~InspectionLine();

  /// A part is in front of the camera.
  /// @param frame What the grabber holds, of the line's size; it is copied before this returns. With any other, e.g. an
  ///   empty one for a frame that did not arrive, the part is missed.
  void trigger(const lrp_edge::FrameView& frame);

  /// Wait for the verdicts that are still due, and end. No trigger may follow.
  void finish();

  LineCounts counts() const;

 private:
  using Clock = std::chrono::steady_clock;
  struct Buffer;
  struct Ticket;

  bool takes(const lrp_edge::FrameView& frame) const noexcept;
  Buffer* take_buffer();
  static void copy(const lrp_edge::FrameView& frame, Buffer& buffer);
  void infer();
  void infer(Buffer& buffer);
  void keep(Buffer& buffer, const lrp_edge::Result& result) const;
  void output();
  Verdict judge(const Ticket& ticket);
  void count(const Verdict& verdict);
  void release(Buffer& buffer);

  lrp_edge::Segmenter& segmenter_;
  LineOptions options_;
  Output output_;
  std::vector<Buffer> buffers_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Buffer*> grabbed_;
  std::deque<Ticket> tickets_;
  LineCounts counts_;
  bool finished_ = false;

  std::thread inference_, outputs_;
};

}  // namespace programs

#endif

#include "inspection_line.hpp"

#include <algorithm>
#include <cstring>
#include <exception>
#include <utility>

namespace programs {

/// A slot of the ring: a frame and its result.
struct InspectionLine::Buffer {
  std::vector<std::uint8_t> pixels;
  lrp_edge::FrameView frame;
  Clock::time_point deadline;

  std::vector<float> scores;
  std::vector<std::uint8_t> mask;
  std::vector<float> relevance;
  std::vector<lrp_edge::Region> regions;
  lrp_edge::Result result;
  std::string error;

  bool taken = false;     ///< By a part.
  bool inferred = false;  ///< The inference thread is done with it.
  bool answered = false;  ///< The output thread is done with it.
};

/// A part waiting for its verdict.
struct InspectionLine::Ticket {
  std::uint64_t part = 0;
  Clock::time_point triggered;
  Buffer* buffer = nullptr;      ///< Null for a part that was missed.
  const char* missed = nullptr;  ///< Why.
};

InspectionLine::InspectionLine(lrp_edge::Segmenter& segmenter, const LineOptions& options, Output output)
    : segmenter_(segmenter), options_(options), output_(std::move(output)), buffers_(options.buffers) {
  if (buffers_.empty()) throw lrp_edge::Error("the line has 0 buffers; expected 1 or more");
  if (options.deadline <= options.deadline.zero()) {
    throw lrp_edge::Error("the deadline is " + std::to_string(options.deadline.count()) +
                          " us after the trigger; expected 1 or more");
  }
  const std::size_t channels = segmenter.card().input.channels();
  const std::size_t values = options.height * options.width;
  for (Buffer& buffer : buffers_) {
    buffer.pixels.resize(values * channels);
    buffer.frame = {buffer.pixels.data(), options.height, options.width, channels, 0};
    buffer.mask.resize(values);
    buffer.relevance.resize(values);
    buffer.scores.resize(segmenter.card().classes.size());
  }
  segmenter_.run(buffers_.front().frame);
  inference_ = std::thread([this] { infer(); });
  outputs_ = std::thread([this] { this->output(); });
}

InspectionLine::~InspectionLine() {
  finish();
}

bool InspectionLine::takes(const lrp_edge::FrameView& frame) const noexcept {
  const lrp_edge::FrameView& own = buffers_.front().frame;
  const auto row = static_cast<std::ptrdiff_t>(own.width * own.channels);
  return frame.data != nullptr && frame.height == own.height && frame.width == own.width &&
         frame.channels == own.channels && (frame.stride == 0 || frame.stride >= row);
}

void InspectionLine::trigger(const lrp_edge::FrameView& frame) {
  Ticket ticket;
  ticket.triggered = Clock::now();
  if (takes(frame)) {
    ticket.buffer = take_buffer();
    ticket.missed = "no buffer was free";
  } else {
    ticket.missed = "no frame of the line's size";
  }
  if (ticket.buffer != nullptr) {
    copy(frame, *ticket.buffer);
    ticket.buffer->deadline = ticket.triggered + options_.deadline;
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  ticket.part = counts_.triggers++;
  if (ticket.buffer != nullptr) grabbed_.push_back(ticket.buffer);
  tickets_.push_back(ticket);
  changed_.notify_all();
}

void InspectionLine::copy(const lrp_edge::FrameView& frame, Buffer& buffer) {
  const std::size_t row = frame.width * frame.channels;
  const std::size_t stride = frame.stride == 0 ? row : static_cast<std::size_t>(frame.stride);
  for (std::size_t y = 0; y < frame.height; ++y) {
    std::memcpy(&buffer.pixels[y * row], frame.data + y * stride, row);
  }
}

InspectionLine::Buffer* InspectionLine::take_buffer() {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto free = std::find_if(buffers_.begin(), buffers_.end(), [](const Buffer& each) { return !each.taken; });
  if (free == buffers_.end()) return nullptr;
  free->taken = true;
  free->inferred = free->answered = false;
  return &*free;
}

void InspectionLine::infer() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return !grabbed_.empty() || finished_; });
    if (grabbed_.empty()) return;
    Buffer& buffer = *grabbed_.front();
    grabbed_.pop_front();
    lock.unlock();
    if (Clock::now() < buffer.deadline) infer(buffer);
    lock.lock();
    buffer.inferred = true;
    release(buffer);
    changed_.notify_all();
  }
}

void InspectionLine::infer(Buffer& buffer) {
  try {
    keep(buffer, segmenter_.run(buffer.frame));
    buffer.error.clear();
  } catch (const std::exception& error) {
    buffer.error = error.what();
  }
}

/// Copy a result, which would be overwritten by the next part's.
void InspectionLine::keep(Buffer& buffer, const lrp_edge::Result& result) const {
  std::copy(result.scores.begin(), result.scores.end(), buffer.scores.begin());
  std::copy_n(result.mask.data, result.mask.size(), buffer.mask.begin());
  std::copy_n(result.relevance.data, result.relevance.size(), buffer.relevance.begin());
  buffer.regions.assign(result.regions.begin(), result.regions.end());
  buffer.result = result;
  buffer.result.scores = buffer.scores;
  buffer.result.mask.data = buffer.mask.data();
  buffer.result.relevance.data = buffer.relevance.data();
  buffer.result.regions = buffer.regions;
}

void InspectionLine::output() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return !tickets_.empty() || finished_; });
    if (tickets_.empty()) return;
    const Ticket ticket = tickets_.front();
    tickets_.pop_front();
    if (ticket.buffer != nullptr) {
      changed_.wait_until(lock, ticket.buffer->deadline, [&ticket] { return ticket.buffer->inferred; });
    }
    const Verdict verdict = judge(ticket);
    count(verdict);
    lock.unlock();
    output_(verdict);
    lock.lock();
    if (ticket.buffer == nullptr) continue;
    ticket.buffer->answered = true;
    release(*ticket.buffer);
  }
}

Verdict InspectionLine::judge(const Ticket& ticket) {
  const auto now = Clock::now();
  Verdict verdict;
  verdict.part = ticket.part;
  verdict.latency = std::chrono::duration_cast<std::chrono::microseconds>(now - ticket.triggered);
  const Buffer* const buffer = ticket.buffer;
  if (buffer == nullptr) {
    verdict.reason = ticket.missed;
  } else if (!buffer->inferred || now >= buffer->deadline) {
    verdict.outcome = Outcome::late;
    verdict.reason = "no verdict in time";
  } else {
    verdict.outcome = Outcome::in_time;
    verdict.frame = buffer->frame;
    verdict.result = buffer->error.empty() ? &buffer->result : nullptr;
    verdict.reject = verdict.result == nullptr || verdict.result->defect;
    if (verdict.reject) {
      verdict.reason = verdict.result == nullptr ? buffer->error : "class " + std::string(verdict.result->name);
    }
  }
  return verdict;
}

void InspectionLine::count(const Verdict& verdict) {
  counts_.in_time += verdict.outcome == Outcome::in_time ? 1 : 0;
  counts_.late += verdict.outcome == Outcome::late ? 1 : 0;
  counts_.missed += verdict.outcome == Outcome::missed ? 1 : 0;
  counts_.failed += verdict.outcome == Outcome::in_time && verdict.result == nullptr ? 1 : 0;
  counts_.rejected += verdict.reject ? 1 : 0;
}

/// Free a slot for the next part, once neither thread needs it.
void InspectionLine::release(Buffer& buffer) {
  if (buffer.inferred && buffer.answered) buffer.taken = false;
}

void InspectionLine::finish() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    finished_ = true;
    changed_.notify_all();
  }
  if (inference_.joinable()) inference_.join();
  if (outputs_.joinable()) outputs_.join();
}

LineCounts InspectionLine::counts() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return counts_;
}

}  // namespace programs

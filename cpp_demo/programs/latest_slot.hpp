/// @file
/// A slot between two threads that holds the newest value.
#ifndef LRP_EDGE_PROGRAMS_LATEST_SLOT_HPP
#define LRP_EDGE_PROGRAMS_LATEST_SLOT_HPP

#include <condition_variable>
#include <mutex>
#include <utility>

namespace programs {

/// Hands values from one thread to another by swapping, so that three of them, with their memory, circulate.
template <class T>
class LatestSlot {
 public:
  /// Swap a value in.
  /// @param wait Whether to wait until the one before it has been taken, rather than put it out.
  /// @return Whether one was put out that nobody had taken. What comes after close() is put out itself.
  bool put(T& value, bool wait) {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [&] { return !wait || !full_ || closed_; });
    const bool lost = full_ || closed_;
    if (!closed_) {
      std::swap(value, value_);
      full_ = true;
    }
    changed_.notify_all();
    return lost;
  }

  /// Wait for a value, and swap it out.
  /// @return False once the slot is closed and empty.
  bool take(T& value) {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [&] { return full_ || closed_; });
    if (!full_) return false;
    std::swap(value, value_);
    full_ = false;
    changed_.notify_all();
    return true;
  }

  /// Take no more values; the one that is there can still be taken.
  void close() {
    const std::lock_guard<std::mutex> lock(mutex_);
    closed_ = true;
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  T value_{};
  bool full_ = false, closed_ = false;
};

}  // namespace programs

#endif

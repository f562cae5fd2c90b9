#include "common/interrupt.hpp"

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdint>

namespace programs {
namespace {

/// A signal within this time is the same one again: `timeout` and others send it to a process and to its group.
constexpr std::int64_t same_ns = 500'000'000;

std::atomic<std::int64_t> first_ns{0};
static_assert(std::atomic<std::int64_t>::is_always_lock_free, "a signal handler must not wait");

extern "C" void note(int signal) {
  // Where a handler is for one signal only, as on Windows.
  std::signal(signal, note);
  const std::int64_t now = std::chrono::nanoseconds(std::chrono::steady_clock::now().time_since_epoch()).count();
  std::int64_t first = 0;
  if (!first_ns.compare_exchange_strong(first, now) && now - first > same_ns) {
    std::signal(signal, SIG_DFL);
    std::raise(signal);
  }
}

}  // namespace

void catch_interrupts() {
  std::signal(SIGINT, note);
  std::signal(SIGTERM, note);
}

bool interrupted() noexcept {
  return first_ns != 0;
}

}  // namespace programs

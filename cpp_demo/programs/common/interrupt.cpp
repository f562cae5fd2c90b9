#include "common/interrupt.hpp"

#include <atomic>
#include <csignal>

namespace programs {
namespace {

std::atomic<bool> came{false};
static_assert(std::atomic<bool>::is_always_lock_free, "a signal handler must not wait");

extern "C" void note(int signal) {
  came = true;
  std::signal(signal, SIG_DFL);
}

}  // namespace

void catch_interrupts() {
  std::signal(SIGINT, note);
  std::signal(SIGTERM, note);
}

bool interrupted() noexcept {
  return came;
}

}  // namespace programs

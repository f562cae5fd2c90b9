#include "common/statistics.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

namespace programs {

void Times::add(double milliseconds) {
  if (values_.size() < kMost) {
    values_.push_back(milliseconds);
  } else {
    values_[next_++ % kMost] = milliseconds;
  }
}

double Times::quantile(double share) const {
  if (values_.empty()) return 0;
  std::vector<double> sorted = values_;
  const auto rank = static_cast<std::ptrdiff_t>(std::lround(share * static_cast<double>(sorted.size() - 1)));
  std::nth_element(sorted.begin(), sorted.begin() + rank, sorted.end());
  return sorted[static_cast<std::size_t>(rank)];
}

std::string Times::summary() const {
  return "p50 " + tenths(quantile(0.5)) + " ms, p99 " + tenths(quantile(0.99)) + " ms";
}

std::string tenths(double value) {
  std::array<char, 64> digits{};
  static_cast<void>(std::snprintf(digits.data(), digits.size(), "%.1f", value));
  return digits.data();
}

}  // namespace programs

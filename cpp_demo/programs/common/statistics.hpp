/// @file
/// Times of the last frames.
#ifndef LRP_EDGE_PROGRAMS_COMMON_STATISTICS_HPP
#define LRP_EDGE_PROGRAMS_COMMON_STATISTICS_HPP

#include <cstddef>
#include <string>
#include <vector>

namespace programs {

/// The last values of something in milliseconds, in memory of a fixed size. One thread at a time.
class Times {
 public:
  void add(double milliseconds);

  /// Value below which a share of them lies; 0 where there is none.
  double quantile(double share) const;

  /// As text, e.g. "p50 4.1 ms, p99 5.0 ms".
  std::string summary() const;

 private:
  static constexpr std::size_t kMost = 4096;
  std::vector<double> values_;
  std::size_t next_ = 0;
};

/// A number with one digit behind the point.
std::string tenths(double value);

}  // namespace programs

#endif

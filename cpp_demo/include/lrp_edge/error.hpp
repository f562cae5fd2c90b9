/// @file
/// Errors that are reported to the user.
#ifndef LRP_EDGE_ERROR_HPP
#define LRP_EDGE_ERROR_HPP

#include <lrp_edge/export.hpp>

#include <stdexcept>
#include <string>

namespace lrp_edge {

/// An error that a user can fix. The message is one line: what was found, what was expected, what to do. For a mistake
/// that Python's `lrp_edge` knows too, it is the same text.
class LRP_EDGE_API Error : public std::runtime_error {
 public:
  explicit Error(const std::string& message);
  Error(const Error&) = default;
  Error& operator=(const Error&) = default;
  ~Error() override;
};

}  // namespace lrp_edge

#endif

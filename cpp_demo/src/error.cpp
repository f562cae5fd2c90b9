#include <lrp_edge/error.hpp>

namespace lrp_edge {

Error::Error(const std::string& message) : std::runtime_error(message) {}

Error::~Error() = default;

}  // namespace lrp_edge

#include "text.hpp"

#include <lrp_edge/card.hpp>

namespace lrp_edge {

std::size_t InputSpec::channels() const noexcept {
  return order == "GRAY" ? 1 : 3;
}

bool Card::is_defect(std::size_t label) const noexcept {
  return label < classes.size() && contains(defects, classes[label]);
}

std::size_t Card::largest_batch() const noexcept {
  return profile ? profile->max[0] : input.max_batch;
}

}  // namespace lrp_edge

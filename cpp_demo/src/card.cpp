#include <lrp_edge/card.hpp>

#include <algorithm>

namespace lrp_edge {

std::size_t InputSpec::channels() const noexcept {
  return order == "GRAY" ? 1 : 3;
}

bool Card::is_defect(std::size_t label) const noexcept {
  return label < classes.size() && std::find(defects.begin(), defects.end(), classes[label]) != defects.end();
}

std::size_t Card::largest_batch() const noexcept {
  return profile ? profile->max[0] : input.max_batch;
}

}  // namespace lrp_edge

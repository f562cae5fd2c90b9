/// @file
/// What must hold between the fields of a model card.
#ifndef LRP_EDGE_SRC_CARD_CHECK_HPP
#define LRP_EDGE_SRC_CARD_CHECK_HPP

#include <lrp_edge/card.hpp>

namespace lrp_edge {

/// @throws Error If an order is unknown, or the normalisation has not one value for each channel.
void check_input(const InputSpec& input);

/// @throws Error If classes are not different, or a field is not one of its allowed values.
void check_card(const Card& card);

}  // namespace lrp_edge

#endif

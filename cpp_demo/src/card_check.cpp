#include "card_check.hpp"

#include "card_schema.hpp"
#include "text.hpp"

#include <lrp_edge/error.hpp>

#include <cstddef>
#include <set>
#include <string>
#include <vector>

namespace lrp_edge {
namespace {

using Names = std::vector<std::string>;

void check_order(const char* field, const std::string& order) {
  const Names orders(kOrders.begin(), kOrders.end());
  if (contains(orders, order)) return;
  throw Error(std::string("model card: ") + field + " is " + in_quotes(order) + "; expected one of " + joined(orders));
}

}  // namespace

void check_input(const InputSpec& input) {
  check_order("order", input.order);
  check_order("network_order", input.network_order);
  const std::size_t expected = input.network_order == "GRAY" ? 1 : 3;
  if (input.mean.size() != expected || input.std.size() != expected) {
    throw Error("model card: mean and std have " + std::to_string(input.mean.size()) + " and " +
                std::to_string(input.std.size()) + " values; a " + input.network_order + " network needs " +
                std::to_string(expected) + " of each");
  }
}

void check_card(const Card& card) {
  const Names explained(kExplained.begin(), kExplained.end());
  const Names precisions(kPrecisions.begin(), kPrecisions.end());
  const Names& classes = card.classes;
  const std::set<std::string> known(classes.begin(), classes.end());
  const std::set<std::string> defects(card.defects.begin(), card.defects.end());
  if (classes.size() < 2 || known.size() != classes.size()) {
    throw Error("model card: classes are " + list_in_quotes(classes) + "; expected two or more different names");
  }
  for (const auto& name : card.defects) {
    if (known.count(name) != 0) continue;
    throw Error("model card: defect " + in_quotes(name) + " is not among the classes " + list_in_quotes(classes));
  }
  if (!contains(explained, card.explained) && known.count(card.explained) == 0) {
    throw Error("model card: explained class is " + in_quotes(card.explained) + "; expected " + joined(explained) +
                " or one of " + joined(classes));
  }
  for (const auto& name : card.mask.area_classes) {
    if (defects.count(name) != 0) continue;
    throw Error("model card: area class " + in_quotes(name) + " is not among the defects; expected some of " +
                joined(card.defects));
  }
  if (card.activation != "softmax" && card.activation != "sigmoid") {
    throw Error("model card: activation is " + in_quotes(card.activation) + "; expected softmax or sigmoid");
  }
  if (card.decision && (defects.empty() || defects.size() == classes.size())) {
    throw Error("model card: the decision has a threshold, and all or none of the classes " + joined(classes) +
                " are defects; expected some of each");
  }
  if (card.relevance_stride < 1) {
    throw Error("model card: relevance_stride is " + std::to_string(card.relevance_stride) + "; it must be 1 or more");
  }
  if (!contains(precisions, card.precision)) {
    throw Error("model card: precision is " + in_quotes(card.precision) + "; expected one of " + joined(precisions));
  }
}

}  // namespace lrp_edge

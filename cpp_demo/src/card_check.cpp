#include "card_check.hpp"

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
  const Names orders{"BGR", "RGB", "GRAY"};
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
  const Names explained{"predicted", "contrast", "defect", "evidence"};
  const Names precisions{"fp32", "fp16", "bf16", "int8"};
  const Names& classes = card.classes;
  if (classes.size() < 2 || std::set<std::string>(classes.begin(), classes.end()).size() != classes.size()) {
    throw Error("model card: classes are " + list_in_quotes(classes) + "; expected two or more different names");
  }
  for (const auto& name : card.defects) {
    if (contains(classes, name)) continue;
    throw Error("model card: defect " + in_quotes(name) + " is not among the classes " + list_in_quotes(classes));
  }
  if (!contains(explained, card.explained) && !contains(classes, card.explained)) {
    throw Error("model card: explained class is " + in_quotes(card.explained) + "; expected " + joined(explained) +
                " or one of " + joined(classes));
  }
  for (const auto& name : card.mask.area_classes) {
    if (contains(card.defects, name)) continue;
    throw Error("model card: area class " + in_quotes(name) + " is not among the defects; expected some of " +
                joined(card.defects));
  }
  if (card.activation != "softmax" && card.activation != "sigmoid") {
    throw Error("model card: activation is " + in_quotes(card.activation) + "; expected softmax or sigmoid");
  }
  const std::size_t defects = std::set<std::string>(card.defects.begin(), card.defects.end()).size();
  if (card.decision && (defects == 0 || defects == classes.size())) {
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

#include "card_fields.hpp"

#include "text.hpp"

#include <limits>

namespace lrp_edge {

using nlohmann::json;

Fields::Fields(const json& object, const char* name) : object_(object), name_(name) {
  if (!object.is_object()) throw Misfit(name_ + " is " + object.type_name() + "; expected an object");
  for (const auto& item : object.items()) unknown_.insert(item.key());
}

const json& Fields::required(const char* field) {
  const json* const found = find(field);
  if (found == nullptr) throw Misfit(in_quotes(field) + " is missing");
  return *found;
}

void Fields::allow(std::initializer_list<const char*> fields) {
  for (const char* const field : fields) unknown_.erase(field);
}

void Fields::allow_no_more() const {
  if (unknown_.empty()) return;
  throw Misfit((name_.empty() ? "the card" : name_) + " has no field " + in_quotes(*unknown_.begin()));
}

void Fields::read(const char* field, std::string& value) {
  const json* const found = find(field);
  if (found == nullptr) return;
  if (!found->is_string()) misfit(field, "text");
  value = found->get<std::string>();
}

void Fields::read(const char* field, bool& value) {
  const json* const found = find(field);
  if (found == nullptr) return;
  if (!found->is_boolean()) misfit(field, "true or false");
  value = found->get<bool>();
}

void Fields::read(const char* field, int& value) {
  std::int64_t wide = value;
  read(field, wide);
  if (wide < std::numeric_limits<int>::min() || wide > std::numeric_limits<int>::max()) misfit(field, "a smaller one");
  value = static_cast<int>(wide);
}

void Fields::read(const char* field, std::int64_t& value) {
  const json* const found = find(field);
  if (found == nullptr) return;
  const bool too_large = found->is_number_unsigned() && found->get<std::uint64_t>() > std::uint64_t{INT64_MAX};
  if (!found->is_number_integer() || too_large) misfit(field, "a whole number");
  value = found->get<std::int64_t>();
}

void Fields::read(const char* field, double& value) {
  const json* const found = find(field);
  if (found == nullptr) return;
  if (!found->is_number()) misfit(field, "a number");
  value = found->get<double>();
}

void Fields::read(const char* field, std::optional<double>& value) {
  const json* const found = find(field);
  if (found == nullptr) return;
  value.reset();
  if (found->is_null()) return;
  if (!found->is_number()) misfit(field, "a number or null");
  value = found->get<double>();
}

void Fields::read(const char* field, std::vector<std::string>& value) {
  const json* const found = find(field);
  if (found == nullptr) return;
  if (!found->is_array()) misfit(field, "a list of texts");
  value.clear();
  for (const json& each : *found) {
    if (!each.is_string()) misfit(field, "a list of texts");
    value.push_back(each.get<std::string>());
  }
}

void Fields::read(const char* field, std::vector<double>& value) {
  const json* const found = find(field);
  if (found == nullptr) return;
  if (!found->is_array()) misfit(field, "a list of numbers");
  value.clear();
  for (const json& each : *found) {
    if (!each.is_number()) misfit(field, "a list of numbers");
    value.push_back(each.get<double>());
  }
}

void Fields::read(const char* field, std::map<std::string, double>& value) {
  const json* const found = find(field);
  if (found == nullptr) return;
  if (!found->is_object()) misfit(field, "numbers by name");
  value.clear();
  for (const auto& item : found->items()) {
    if (!item.value().is_number()) misfit(field, "numbers by name");
    value[item.key()] = item.value().get<double>();
  }
}

void Fields::read(const char* field, std::optional<Size>& value) {
  constexpr const char* expected = "null or height and width";
  const json* const found = find(field);
  if (found == nullptr) return;
  value.reset();
  if (found->is_null()) return;
  if (!found->is_array() || found->size() != 2) misfit(field, expected);
  for (const json& extent : *found) {
    if (!extent.is_number_unsigned() || extent.get<std::uint64_t>() == 0) misfit(field, expected);
  }
  value = Size{(*found)[0].get<std::size_t>(), (*found)[1].get<std::size_t>()};
}

const json* Fields::find(const char* field) {
  unknown_.erase(field);
  const auto found = object_.find(field);
  return found == object_.end() ? nullptr : &*found;
}

void Fields::misfit(const char* field, const char* expected) const {
  const std::string place = name_.empty() ? field : name_ + "." + field;
  throw Misfit(place + " is " + object_.at(field).type_name() + "; expected " + expected);
}

}  // namespace lrp_edge

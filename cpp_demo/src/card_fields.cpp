#include "card_fields.hpp"

#include "card_schema.hpp"
#include "text.hpp"

#include <algorithm>
#include <cmath>
#include <set>

namespace lrp_edge {
namespace {

using nlohmann::json;

constexpr std::array<const char*, 3> kEnds{"min", "opt", "max"};

bool is_text(const json& value) {
  return value.is_string();
}

bool is_number(const json& value) {
  return value.is_number() && std::isfinite(value.get<double>());
}

bool is_whole(const json& value, std::int64_t least = -kLargest - 1) {
  if (!value.is_number_integer()) return false;
  if (value.is_number_unsigned() && value.get<std::uint64_t>() > std::uint64_t{INT64_MAX}) return false;
  const auto number = value.get<std::int64_t>();
  return number >= least && number <= kLargest;
}

template <typename Fits>
bool all_of(const json& values, Fits fits) {
  return std::all_of(values.begin(), values.end(), fits);
}

bool is_shape(const json& value, std::size_t axes) {
  return value.is_array() && value.size() == axes && all_of(value, [](const json& each) { return is_whole(each, 1); });
}

bool is_profile(const json& value) {
  if (!value.is_object() || value.empty()) return value.is_object();
  return value.size() == kEnds.size() && std::all_of(kEnds.begin(), kEnds.end(), [&value](const char* end) {
           const auto found = value.find(end);
           return found != value.end() && is_shape(*found, 3);
         });
}

bool fits(Kind kind, const json& value) {
  switch (kind) {
    case Kind::kText:
      return is_text(value);
    case Kind::kTruth:
      return value.is_boolean();
    case Kind::kWhole:
      return is_whole(value);
    case Kind::kNumber:
      return is_number(value);
    case Kind::kNumberOrNull:
      return value.is_null() || is_number(value);
    case Kind::kTexts:
      return value.is_array() && all_of(value, is_text);
    case Kind::kNumbers:
      return value.is_array() && all_of(value, is_number);
    case Kind::kNumbersByName:
      return value.is_object() && all_of(value, is_number);
    case Kind::kObject:
      return value.is_object();
    case Kind::kProfile:
      return is_profile(value);
    case Kind::kSizeOrNull:
      return value.is_null() || is_shape(value, 2);
  }
  return false;
}

void check_group(const GroupRule& group, const json& object) {
  const std::string name = group.name;
  if (!object.is_object()) throw Misfit(name + " is " + object.type_name() + "; expected an object");
  std::set<std::string> unknown;
  for (const auto& item : object.items()) unknown.insert(item.key());
  for (const char* const needed : kNeeded) {
    if (name.empty() && unknown.count(needed) == 0) throw Misfit(in_quotes(needed) + " is missing");
  }
  for (const FieldRule* field = group.fields; field != group.fields + group.size; ++field) {
    const auto found = object.find(field->name);
    if (found == object.end()) continue;
    unknown.erase(field->name);
    if (fits(field->kind, *found)) continue;
    throw Misfit((name.empty() ? "" : name + ".") + field->name + " is " + found->type_name() + "; expected " +
                 kExpected.at(static_cast<std::size_t>(field->kind)));
  }
  for (const char* const other : kOthers) {
    if (name.empty()) unknown.erase(other);
  }
  if (!group.closed || unknown.empty()) return;
  throw Misfit((name.empty() ? "the card" : name) + " has no field " + in_quotes(*unknown.begin()));
}

/// A field, or null where it is missing.
const json* find(const json& object, const char* field) {
  const auto found = object.find(field);
  return found == object.end() ? nullptr : &*found;
}

template <typename Value>
void read_as(const json& object, const char* field, Value& value) {
  if (const json* const found = find(object, field)) value = found->get<Value>();
}

}  // namespace

void check_fields(const json& card) {
  const json empty = json::object();
  for (const GroupRule& group : kGroups) {
    const bool is_card = *group.name == '\0';
    const json* const found = is_card ? &card : find(card, group.name);
    if (found != nullptr && found->is_null() && group.optional) continue;
    check_group(group, found == nullptr ? empty : *found);
  }
}

void read(const json& object, const char* field, std::string& value) {
  read_as(object, field, value);
}

void read(const json& object, const char* field, bool& value) {
  read_as(object, field, value);
}

void read(const json& object, const char* field, int& value) {
  read_as(object, field, value);
}

void read(const json& object, const char* field, std::int64_t& value) {
  read_as(object, field, value);
}

void read(const json& object, const char* field, double& value) {
  read_as(object, field, value);
}

void read(const json& object, const char* field, std::optional<double>& value) {
  const json* const found = find(object, field);
  if (found == nullptr) return;
  value = found->is_null() ? std::nullopt : std::optional<double>(found->get<double>());
}

void read(const json& object, const char* field, std::vector<std::string>& value) {
  read_as(object, field, value);
}

void read(const json& object, const char* field, std::vector<double>& value) {
  read_as(object, field, value);
}

void read(const json& object, const char* field, std::map<std::string, double>& value) {
  read_as(object, field, value);
}

void read(const json& object, const char* field, std::optional<Size>& value) {
  const json* const found = find(object, field);
  if (found == nullptr) return;
  value.reset();
  if (!found->is_null()) value = Size{(*found)[0].get<std::size_t>(), (*found)[1].get<std::size_t>()};
}

void read(const json& object, const char* field, std::array<std::size_t, 3>& value) {
  read_as(object, field, value);
}

}  // namespace lrp_edge

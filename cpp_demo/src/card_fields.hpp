/// @file
/// Typed fields of a JSON object.
#ifndef LRP_EDGE_SRC_CARD_FIELDS_HPP
#define LRP_EDGE_SRC_CARD_FIELDS_HPP

#include <lrp_edge/card.hpp>

#include <nlohmann/json.hpp>

#include <cstdint>
#include <initializer_list>
#include <map>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

namespace lrp_edge {

/// A field is missing, unknown, or not of its type; the message is that of the error's parenthesis.
class Misfit : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// An object of the card with the fields that it may have.
class Fields {
 public:
  /// @param object Kept by reference.
  /// @param name Of the field that it is; empty for the card itself.
  Fields(const nlohmann::json& object, const char* name);

  /// @throws Misfit If there is no such field.
  const nlohmann::json& required(const char* field);

  /// Allow fields that are not read.
  void allow(std::initializer_list<const char*> fields);

  /// @throws Misfit If there is a field that was neither read nor allowed.
  void allow_no_more() const;

  /// Read a field; a missing one is not changed.
  /// @throws Misfit If it is of another type.
  void read(const char* field, std::string& value);
  void read(const char* field, bool& value);
  void read(const char* field, int& value);
  void read(const char* field, std::int64_t& value);
  void read(const char* field, double& value);
  void read(const char* field, std::optional<double>& value);
  void read(const char* field, std::vector<std::string>& value);
  void read(const char* field, std::vector<double>& value);
  void read(const char* field, std::map<std::string, double>& value);
  void read(const char* field, std::optional<Size>& value);

 private:
  const nlohmann::json* find(const char* field);
  [[noreturn]] void misfit(const char* field, const char* expected) const;

  const nlohmann::json& object_;
  std::string name_;
  std::set<std::string> unknown_;
};

}  // namespace lrp_edge

#endif

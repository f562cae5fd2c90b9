/// @file
/// The fields of a model card, compared with their types, and read.
#ifndef LRP_EDGE_SRC_CARD_FIELDS_HPP
#define LRP_EDGE_SRC_CARD_FIELDS_HPP

#include <lrp_edge/card.hpp>

#include <nlohmann/json.hpp>

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

namespace lrp_edge {

/// A field is missing, unknown, or not of its type; the message is that of the error's parenthesis.
class Misfit : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Compare all fields of a card with the table that Python has too.
/// @throws Misfit If one is missing, unknown, or not of its type.
void check_fields(const nlohmann::json& card);

/// Read a field that has been compared; a missing one is not changed.
void read(const nlohmann::json& object, const char* field, std::string& value);
void read(const nlohmann::json& object, const char* field, bool& value);
void read(const nlohmann::json& object, const char* field, int& value);
void read(const nlohmann::json& object, const char* field, std::int64_t& value);
void read(const nlohmann::json& object, const char* field, double& value);
void read(const nlohmann::json& object, const char* field, std::optional<double>& value);
void read(const nlohmann::json& object, const char* field, std::vector<std::string>& value);
void read(const nlohmann::json& object, const char* field, std::vector<double>& value);
void read(const nlohmann::json& object, const char* field, std::map<std::string, double>& value);
void read(const nlohmann::json& object, const char* field, std::optional<Size>& value);
void read(const nlohmann::json& object, const char* field, std::array<std::size_t, 3>& value);

}  // namespace lrp_edge

#endif

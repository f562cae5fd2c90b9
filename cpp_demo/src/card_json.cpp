#include "card_check.hpp"
#include "card_fields.hpp"
#include "card_schema.hpp"
#include "text.hpp"

#include <lrp_edge/card.hpp>
#include <lrp_edge/error.hpp>

#include <nlohmann/json.hpp>

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace lrp_edge {
namespace {

using nlohmann::json;

/// Put null in place of the numbers that Python writes and that are not JSON: NaN, Infinity, -Infinity.
std::string without_non_finite(std::string_view text) {
  constexpr std::array<std::string_view, 3> words{"-Infinity", "Infinity", "NaN"};
  std::string result;
  bool inside = false;
  for (std::size_t i = 0; i < text.size();) {
    std::size_t length = 1;
    bool replaced = false;
    if (text[i] == '"') inside = !inside;
    if (inside && text[i] == '\\') length = 2;
    for (const std::string_view word : words) {
      replaced = !inside && text.substr(i, word.size()) == word;
      if (replaced) length = word.size();
      if (replaced) break;
    }
    result += replaced ? std::string_view("null") : text.substr(i, length);
    i += length;
  }
  return result;
}

/// nlohmann's message without its number, and without what was read, which may be anything.
std::string reason(const json::exception& error) {
  std::string_view text = error.what();
  text = text.substr(text.find("] ") + 2);
  return std::string(text.substr(0, text.find("; last read")));
}

json parse(std::string_view text, const std::string& source) {
  // What is deeper by far than any card would exhaust the stack of what goes through it.
  const auto check_depth = [&source](int depth, json::parse_event_t, const json&) {
    if (depth <= kDeepest) return true;
    throw Error(source + ": the model card is not JSON (nested too deeply); export the model again");
  };
  // The parser would take it for the end.
  if (text.find('\0') != std::string_view::npos) {
    throw Error(source + ": the model card is not JSON (it has a null byte); export the model again");
  }
  try {
    return json::parse(without_non_finite(text), check_depth);
  } catch (const json::exception& error) {
    throw Error(source + ": the model card is not JSON (" + reason(error) + "); export the model again");
  }
}

std::string shown(const json& value) {
  if (value.is_string()) return in_quotes(value.get<std::string>());
  return value.is_number_integer() ? value.dump() : value.type_name();
}

void check_schema(const json& data, const std::string& source) {
  std::string found = "no schema";
  if (data.is_object() && data.contains("schema")) {
    const json& schema = data.at("schema");
    if (schema.is_number_integer() && schema == kSchema) return;
    found = "schema " + shown(schema);
  }
  throw Error(source + ": the model card has " + found + "; this version of lrp-edge reads " +
              std::to_string(kSchema) + ": export again");
}

InputSpec read_input(const json& data) {
  InputSpec input;
  auto max_batch = static_cast<std::int64_t>(input.max_batch);
  read(data, "order", input.order);
  read(data, "mean", input.mean);
  read(data, "std", input.std);
  read(data, "size", input.size);
  read(data, "resize", input.resize);
  read(data, "network_order", input.network_order);
  read(data, "max_batch", max_batch);
  read(data, "standardise", input.standardise);
  check_input(input);
  if (max_batch < 1) {
    throw Error("model card: max_batch is " + std::to_string(max_batch) + "; it must be 1 or more");
  }
  input.max_batch = static_cast<std::size_t>(max_batch);
  return input;
}

MaskSpec read_mask(const json& data) {
  MaskSpec mask;
  read(data, "method", mask.method);
  read(data, "parameters", mask.parameters);
  read(data, "smoothing", mask.smoothing);
  read(data, "close", mask.close);
  read(data, "open", mask.open);
  read(data, "area_classes", mask.area_classes);
  read(data, "found", mask.found);
  return mask;
}

std::optional<Decision> read_decision(const json& data) {
  if (data.is_null()) return std::nullopt;
  Decision decision;
  read(data, "threshold", decision.threshold);
  read(data, "images", decision.images);
  read(data, "promised", decision.promised);
  read(data, "bound", decision.bound);
  read(data, "seen", decision.seen);
  read(data, "date", decision.date);
  read(data, "found", decision.found);
  if (decision.threshold < 0 || decision.threshold >= 1) {
    throw Error("model card: decision threshold is " + number_text(decision.threshold) +
                "; expected a number from 0 on, below 1");
  }
  return decision;
}

EngineFacts read_engine(const json& data) {
  EngineFacts engine;
  read(data, "product", engine.product);
  read(data, "version", engine.version);
  read(data, "gpus", engine.gpus);
  read(data, "model", engine.model);
  read(data, "model_sha256", engine.model_sha256);
  read(data, "engine_sha256", engine.engine_sha256);
  read(data, "options", engine.options);
  return engine;
}

std::optional<Profile> read_profile(const json& data) {
  if (data.empty()) return std::nullopt;
  Profile profile;
  read(data, "min", profile.min);
  read(data, "opt", profile.opt);
  read(data, "max", profile.max);
  return profile;
}

Card read_card(const json& data) {
  Card card;
  read(data, "classes", card.classes);
  read(data, "defects", card.defects);
  card.input = read_input(data.at("input"));
  card.mask = read_mask(data.at("mask"));
  card.decision = read_decision(data.value("decision", json()));
  read(data, "explained", card.explained);
  read(data, "activation", card.activation);
  read(data, "composite", card.composite);
  read(data, "relevance_stride", card.relevance_stride);
  read(data, "precision", card.precision);
  read(data, "gate", card.gate);
  read(data, "receptive_field", card.receptive_field);
  card.profile = read_profile(data.value("profile", json::object()));
  card.engine = read_engine(data.value("engine", json::object()));
  read(data.value("usable", json::object()), "unusable", card.unusable);
  check_card(card);
  return card;
}

}  // namespace

Card Card::from_json(std::string_view text, const std::string& source) {
  const nlohmann::json data = parse(text, source);
  check_schema(data, source);
  try {
    check_fields(data);
  } catch (const Misfit& misfit) {
    throw Error(source + ": the model card does not fit its schema (" + misfit.what() + "); export the model again");
  }
  Card card = read_card(data);
  card.json = text;
  return card;
}

}  // namespace lrp_edge

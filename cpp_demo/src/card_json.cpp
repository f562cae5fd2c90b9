#include "card_check.hpp"
#include "card_fields.hpp"
#include "text.hpp"

#include <lrp_edge/card.hpp>
#include <lrp_edge/error.hpp>

#include <nlohmann/json.hpp>

#include <array>
#include <cctype>
#include <string>
#include <string_view>

namespace lrp_edge {
namespace {

using nlohmann::json;

constexpr int kSchema = 1;
constexpr int kDeepest = 100;

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
  try {
    return json::parse(without_non_finite(text), check_depth);
  } catch (const json::exception& error) {
    throw Error(source + ": the model card is not JSON (" + reason(error) + "); export the model again");
  }
}

std::string python_value(const json& value) {
  if (value.is_string()) return in_quotes(value.get<std::string>());
  if (value.is_null()) return "None";
  if (value.is_boolean()) return value.get<bool>() ? "True" : "False";
  return value.dump();
}

void check_schema(const json& data, const std::string& source) {
  std::string found = "no schema";
  if (data.is_object() && data.contains("schema")) {
    const json& schema = data.at("schema");
    if (schema == kSchema) return;
    found = "schema " + python_value(schema);
  }
  throw Error(source + ": the model card has " + found + "; this version of lrp-edge reads " +
              std::to_string(kSchema) + ": export again");
}

InputSpec read_input(const json& data) {
  Fields fields(data, "input");
  InputSpec input;
  auto max_batch = static_cast<std::int64_t>(input.max_batch);
  fields.read("order", input.order);
  fields.read("mean", input.mean);
  fields.read("std", input.std);
  fields.read("size", input.size);
  fields.read("resize", input.resize);
  fields.read("network_order", input.network_order);
  fields.read("max_batch", max_batch);
  fields.read("standardise", input.standardise);
  fields.allow_no_more();
  check_input(input);
  if (max_batch < 1) {
    throw Error("model card: max_batch is " + std::to_string(max_batch) + "; it must be 1 or more");
  }
  input.max_batch = static_cast<std::size_t>(max_batch);
  return input;
}

MaskSpec read_mask(const json& data) {
  Fields fields(data, "mask");
  MaskSpec mask;
  fields.read("method", mask.method);
  fields.read("parameters", mask.parameters);
  fields.read("smoothing", mask.smoothing);
  fields.read("close", mask.close);
  fields.read("open", mask.open);
  fields.read("area_classes", mask.area_classes);
  fields.read("found", mask.found);
  fields.allow_no_more();
  return mask;
}

std::optional<Decision> read_decision(const json& data) {
  if (data.is_null()) return std::nullopt;
  Fields fields(data, "decision");
  Decision decision;
  fields.read("threshold", decision.threshold);
  fields.read("images", decision.images);
  fields.read("promised", decision.promised);
  fields.read("bound", decision.bound);
  fields.read("seen", decision.seen);
  fields.read("date", decision.date);
  fields.read("found", decision.found);
  fields.allow_no_more();
  if (decision.threshold < 0 || decision.threshold >= 1) {
    throw Error("model card: decision threshold is " + data.at("threshold").dump() +
                "; expected a number from 0 on, below 1");
  }
  return decision;
}

/// Text of a fact; anything that is not text is left out, and reported missing where it is needed.
std::string fact(const json& engine, const char* name) {
  const auto found = engine.find(name);
  return found != engine.end() && found->is_string() ? found->get<std::string>() : std::string();
}

std::vector<std::string> facts(const json& engine, const char* name) {
  std::vector<std::string> result;
  const auto found = engine.find(name);
  if (found == engine.end() || !found->is_array()) return result;
  for (const json& each : *found) result.push_back(each.is_string() ? each.get<std::string>() : each.dump());
  return result;
}

EngineFacts read_engine(const json& data) {
  if (!data.is_object()) return {};
  return {fact(data, "product"),      fact(data, "version"),       facts(data, "gpus"),   fact(data, "model"),
          fact(data, "model_sha256"), fact(data, "engine_sha256"), facts(data, "options")};
}

bool read_shape(const json& profile, const char* end, std::array<std::size_t, 3>& shape) {
  const auto found = profile.find(end);
  if (found == profile.end() || !found->is_array() || found->size() != shape.size()) return false;
  for (std::size_t axis = 0; axis < shape.size(); ++axis) {
    if (!(*found)[axis].is_number_unsigned()) return false;
    shape[axis] = (*found)[axis].get<std::size_t>();
  }
  return true;
}

std::optional<Profile> read_profile(const json& data) {
  Profile profile;
  const bool whole = data.is_object() && read_shape(data, "min", profile.min) && read_shape(data, "opt", profile.opt) &&
                     read_shape(data, "max", profile.max);
  return whole ? std::optional<Profile>(profile) : std::nullopt;
}

Card read_card(const json& data) {
  Fields fields(data, "");
  Card card;
  for (const char* const name : {"classes", "defects", "input", "mask"}) fields.required(name);
  fields.read("classes", card.classes);
  fields.read("defects", card.defects);
  card.input = read_input(fields.required("input"));
  card.mask = read_mask(fields.required("mask"));
  fields.allow({"decision"});
  card.decision = read_decision(data.value("decision", json()));
  fields.read("explained", card.explained);
  fields.read("activation", card.activation);
  fields.read("composite", card.composite);
  fields.read("relevance_stride", card.relevance_stride);
  fields.read("precision", card.precision);
  fields.read("gate", card.gate);
  fields.read("receptive_field", card.receptive_field);
  fields.allow({"usable"});
  fields.allow({"architecture", "composite_parameters", "logits", "provenance", "parity", "schema", "profile", "engine"});
  fields.allow_no_more();
  card.profile = read_profile(data.value("profile", json::object()));
  card.engine = read_engine(data.value("engine", json::object()));
  const json usable = data.value("usable", json::object());
  if (usable.is_object()) card.unusable = facts(usable, "unusable");
  check_card(card);
  return card;
}

}  // namespace

Card Card::from_json(std::string_view text, const std::string& source) {
  const nlohmann::json data = parse(text, source);
  check_schema(data, source);
  try {
    Card card = read_card(data);
    card.json = text;
    return card;
  } catch (const Misfit& misfit) {
    throw Error(source + ": the model card does not fit its schema (" + misfit.what() + "); export the model again");
  }
}

}  // namespace lrp_edge

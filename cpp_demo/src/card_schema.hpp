/// @file
/// The fields of a model card. Written by `make reference` from lrp_edge/card, which says what it means.
#ifndef LRP_EDGE_SRC_CARD_SCHEMA_HPP
#define LRP_EDGE_SRC_CARD_SCHEMA_HPP

#include <array>
#include <cstddef>
#include <cstdint>

namespace lrp_edge {

enum class Kind : unsigned char {
  kText,
  kTruth,
  kWhole,
  kNumber,
  kNumberOrNull,
  kTexts,
  kNumbers,
  kNumbersByName,
  kObject,
  kProfile,
  kSizeOrNull,
};

/// What is expected of each kind, in words.
constexpr std::array<const char*, 11> kExpected{
    "text",
    "true or false",
    "a whole number",
    "a number",
    "a number or null",
    "a list of texts",
    "a list of numbers",
    "numbers by name",
    "an object",
    "{} or min, opt and max, each of frames, height and width",
    "null or height and width",
};

struct FieldRule {
  const char* name;
  Kind kind;
};

struct GroupRule {
  const char* name;  ///< Empty for the card itself.
  bool optional;     ///< Whether it may be null.
  bool closed;       ///< Whether it has no other fields.
  const FieldRule* fields;
  std::size_t size;
};

constexpr std::array<FieldRule, 17> kCardFields{
    FieldRule{"classes", Kind::kTexts},
    FieldRule{"defects", Kind::kTexts},
    FieldRule{"explained", Kind::kText},
    FieldRule{"activation", Kind::kText},
    FieldRule{"logits", Kind::kText},
    FieldRule{"architecture", Kind::kObject},
    FieldRule{"composite", Kind::kText},
    FieldRule{"composite_parameters", Kind::kObject},
    FieldRule{"relevance_stride", Kind::kWhole},
    FieldRule{"precision", Kind::kText},
    FieldRule{"gate", Kind::kTruth},
    FieldRule{"receptive_field", Kind::kSizeOrNull},
    FieldRule{"profile", Kind::kProfile},
    FieldRule{"engine", Kind::kObject},
    FieldRule{"provenance", Kind::kObject},
    FieldRule{"parity", Kind::kObject},
    FieldRule{"usable", Kind::kObject},
};

constexpr std::array<FieldRule, 8> kInputFields{
    FieldRule{"order", Kind::kText},
    FieldRule{"mean", Kind::kNumbers},
    FieldRule{"std", Kind::kNumbers},
    FieldRule{"size", Kind::kSizeOrNull},
    FieldRule{"resize", Kind::kSizeOrNull},
    FieldRule{"network_order", Kind::kText},
    FieldRule{"max_batch", Kind::kWhole},
    FieldRule{"standardise", Kind::kTruth},
};

constexpr std::array<FieldRule, 7> kMaskFields{
    FieldRule{"method", Kind::kText},
    FieldRule{"parameters", Kind::kNumbersByName},
    FieldRule{"smoothing", Kind::kText},
    FieldRule{"close", Kind::kWhole},
    FieldRule{"open", Kind::kWhole},
    FieldRule{"area_classes", Kind::kTexts},
    FieldRule{"found", Kind::kText},
};

constexpr std::array<FieldRule, 7> kDecisionFields{
    FieldRule{"threshold", Kind::kNumber},
    FieldRule{"images", Kind::kWhole},
    FieldRule{"promised", Kind::kNumberOrNull},
    FieldRule{"bound", Kind::kNumberOrNull},
    FieldRule{"seen", Kind::kNumberOrNull},
    FieldRule{"date", Kind::kText},
    FieldRule{"found", Kind::kText},
};

constexpr std::array<FieldRule, 8> kEngineFields{
    FieldRule{"product", Kind::kText},
    FieldRule{"version", Kind::kText},
    FieldRule{"device", Kind::kText},
    FieldRule{"model", Kind::kText},
    FieldRule{"model_sha256", Kind::kText},
    FieldRule{"engine_sha256", Kind::kText},
    FieldRule{"gpus", Kind::kTexts},
    FieldRule{"options", Kind::kTexts},
};

constexpr std::array<FieldRule, 1> kUsableFields{
    FieldRule{"unusable", Kind::kTexts},
};

constexpr std::array<const char*, 4> kNeeded{"classes", "defects", "input", "mask"};
constexpr std::array<const char*, 4> kOthers{"input", "mask", "decision", "schema"};
constexpr std::array<const char*, 3> kOrders{"BGR", "RGB", "GRAY"};
constexpr std::array<const char*, 4> kExplained{"predicted", "contrast", "defect", "evidence"};
constexpr std::array<const char*, 4> kPrecisions{"fp32", "fp16", "bf16", "int8"};

constexpr int kSchema = 1;
constexpr int kDeepest = 100;
constexpr std::int64_t kLargest = 2147483647;

/// All groups, the card itself first.
constexpr std::array<GroupRule, 6> kGroups{
    GroupRule{"", false, true, kCardFields.data(), kCardFields.size()},
    GroupRule{"input", false, true, kInputFields.data(), kInputFields.size()},
    GroupRule{"mask", false, true, kMaskFields.data(), kMaskFields.size()},
    GroupRule{"decision", true, true, kDecisionFields.data(), kDecisionFields.size()},
    GroupRule{"engine", false, false, kEngineFields.data(), kEngineFields.size()},
    GroupRule{"usable", false, false, kUsableFields.data(), kUsableFields.size()},
};

}  // namespace lrp_edge

#endif

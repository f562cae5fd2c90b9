/// @file
/// The model card: everything about a model that is not weights.
#ifndef LRP_EDGE_CARD_HPP
#define LRP_EDGE_CARD_HPP

#include <lrp_edge/export.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace lrp_edge {

/// Height and width in pixels.
struct Size {
  std::size_t height = 0;
  std::size_t width = 0;
};

constexpr bool operator==(const Size& a, const Size& b) noexcept {
  return a.height == b.height && a.width == b.width;
}
constexpr bool operator!=(const Size& a, const Size& b) noexcept {
  return !(a == b);
}

/// The frames that a model takes, and how its network wants them.
struct InputSpec {
  std::string order = "BGR";          ///< Channel order of the frames: BGR, RGB or GRAY.
  std::vector<double> mean{0, 0, 0};  ///< Normalisation `(pixel / 255 - mean) / std`; it is done in the graph.
  std::vector<double> std{1, 1, 1};   ///< See `mean`.
  std::optional<Size> size;           ///< The frames' size; none takes any size.
  std::optional<Size> resize;         ///< The size that the network is run at; none for the frames' own.
  std::string network_order = "RGB";  ///< Channel order that the network was trained with.
  std::size_t max_batch = 8;          ///< The most frames in one call.
  bool standardise = false;           ///< Whether each frame is normalised to mean 0 and standard deviation 1.

  /// Channels of a frame: 3, or 1 for GRAY.
  LRP_EDGE_API std::size_t channels() const noexcept;
};

/// How relevance becomes a binary mask; it is done in the graph.
struct MaskSpec {
  std::string method = "otsu";
  std::map<std::string, double> parameters;
  std::string smoothing = "none";
  int close = 0;
  int open = 0;
  std::vector<std::string> area_classes;  ///< Defect classes whose defects are large areas.
  std::string found = "per frame, in the graph";
};

/// When a frame is a defect: if the sum of the defects' scores (of sigmoid scores the greatest) exceeds a threshold. It
/// is done in the graph: `Result::label` and `Result::defect` follow it.
struct Decision {
  double threshold = 0.5;          ///< From 0 on, below 1.
  std::int64_t images = 0;         ///< OK images that it was set on; 0 if it was not calibrated.
  std::optional<double> promised;  ///< Share of OK frames that are false alarms, at most, on average over calibrations.
  std::optional<double> bound;     ///< What that share is below in nine of ten calibrations.
  std::optional<double> seen;      ///< Share of the images themselves that exceed the threshold.
  std::string date;                ///< When it was set, in UTC.
  std::string found = "not calibrated: a defect is what is more likely one than not";
};

/// Shapes that an engine was compiled for, each {frames, height, width} in one call.
struct Profile {
  std::array<std::size_t, 3> min{};
  std::array<std::size_t, 3> opt{};
  std::array<std::size_t, 3> max{};
};

/// What an engine file is and how it was built; empty for an ONNX file. A field that the card does not have is empty.
struct EngineFacts {
  std::string product;               ///< "rtx" or "tensorrt".
  std::string version;               ///< Of the product that built it.
  std::vector<std::string> gpus;     ///< That it was built for, e.g. "sm86".
  std::string model;                 ///< Name of the ONNX file that it was built from.
  std::string model_sha256;          ///< In hexadecimal digits.
  std::string engine_sha256;         ///< In hexadecimal digits.
  std::vector<std::string> options;  ///< Words behind `lrp-edge compile MODEL --for PRODUCT` that build it again.
};

/// Everything about a model that is not weights.
struct Card {
  std::vector<std::string> classes;  ///< In the order of the scores.
  std::vector<std::string> defects;  ///< Those of them that count as defects.
  InputSpec input;
  std::string explained = "predicted";  ///< predicted, contrast, defect, evidence, or a class name.
  std::string activation = "softmax";   ///< softmax or sigmoid.
  std::optional<Decision> decision;     ///< None in files without a threshold: the class with the greatest score.
  std::string composite = "Segmentation";
  MaskSpec mask;
  int relevance_stride = 1;         ///< Stride of the network's stage that relevance is read at.
  std::string precision = "fp32";  ///< fp32, fp16, bf16 or int8.
  bool gate = false;               ///< Whether relevance and mask are zero in a call without a defect.
  /// The window that a unit of the last feature map sees, in pixels of the network's input.
  std::optional<Size> receptive_field;
  /// What was not shown to be better than chance, class or mask; empty where it was not measured.
  std::vector<std::string> unusable;
  std::optional<Profile> profile;  ///< Of an engine.
  EngineFacts engine;              ///< Of an engine.
  std::string json;                ///< The text that all this was read from.

  /// Whether the class of an index counts as a defect.
  /// @param label Less than the number of classes.
  LRP_EDGE_API bool is_defect(std::size_t label) const noexcept;

  /// The most frames in one call: the profile's if there is one, else the input's.
  LRP_EDGE_API std::size_t largest_batch() const noexcept;

  /// Read a card from JSON text in UTF-8.
  /// @param text What `lrp-edge export` wrote.
  /// @param source Where it was found, for the error.
  /// @throws Error If the text is not JSON, is of another schema, or a field is missing, unknown or out of range.
  LRP_EDGE_API static Card from_json(std::string_view text, const std::string& source = "model card");
};

}  // namespace lrp_edge

#endif

#include "onnx_runtime_session.hpp"

#include "files.hpp"
#include "onnx_check.hpp"
#include "onnx_runtime_providers.hpp"
#include "text.hpp"

#include <lrp_edge/error.hpp>

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <system_error>
#include <vector>

namespace lrp_edge {
namespace {

namespace fs = std::filesystem;
using Types = std::map<std::string, std::string>;
using Shape = std::vector<std::int64_t>;
using Shapes = std::map<std::string, Shape>;

constexpr const char* kMetadataKey = "lrp_edge";

/// Names of ONNX Runtime's error codes, by their number.
constexpr std::array<const char*, 12> kCodes{"SUCCESS",           "FAIL",
                                             "INVALID_ARGUMENT",  "NO_SUCHFILE",
                                             "NO_MODEL",          "ENGINE_ERROR",
                                             "RUNTIME_EXCEPTION", "INVALID_PROTOBUF",
                                             "MODEL_LOADED",      "NOT_IMPLEMENTED",
                                             "INVALID_GRAPH",     "EP_FAIL"};

/// Names of the tensors' element types, by their number; those of the contract as NumPy has them.
constexpr std::array<const char*, 17> kTypes{
    "tensor(undefined)",  "float32",         "uint8",          "tensor(int8)",   "tensor(uint16)",
    "tensor(int16)",      "int32",           "tensor(int64)",  "tensor(string)", "tensor(bool)",
    "tensor(float16)",    "tensor(double)",  "tensor(uint32)", "tensor(uint64)", "tensor(complex64)",
    "tensor(complex128)", "tensor(bfloat16)"};

std::string type_text(const Ort::TypeInfo& info) {
  if (info.GetONNXType() != ONNX_TYPE_TENSOR) return "no tensor";
  const auto type = static_cast<std::size_t>(info.GetTensorTypeAndShapeInfo().GetElementType());
  return type < kTypes.size() ? kTypes[type] : "of another type";
}

void require_types(const fs::path& path, const char* kind, const Types& found, const Types& wanted) {
  for (const auto& [name, type] : wanted) {
    const auto at = found.find(name);
    if (at != found.end() && at->second == type) continue;
    throw Error(path_text(path) + ": " + kind + " " + in_quotes(name) + " is " +
                (at == found.end() ? "missing" : at->second) + "; expected " + type + ": export again");
  }
}

Shape shape_of(const Ort::TypeInfo& info) {
  return info.GetONNXType() == ONNX_TYPE_TENSOR ? info.GetTensorTypeAndShapeInfo().GetShape() : Shape{};
}

std::string open_shape_text(const Shape& shape) {
  std::vector<std::string> each;
  each.reserve(shape.size());
  for (const std::int64_t extent : shape) each.push_back(extent < 0 ? "?" : std::to_string(extent));
  return "[" + joined(each) + "]";
}

/// Compare extents as far as both fix them; a file that says nothing of a shape fits.
void require_shape(const fs::path& path, const char* kind, const char* name, const Shape& found, const Shape& wanted) {
  bool fits = found.size() == wanted.size();
  for (std::size_t axis = 0; fits && axis < found.size(); ++axis) {
    fits = found[axis] < 0 || wanted[axis] < 0 || found[axis] == wanted[axis];
  }
  if (found.empty() || fits) return;
  throw Error(path_text(path) + ": " + kind + " " + in_quotes(name) + " has shape " + open_shape_text(found) +
              "; its card says " + open_shape_text(wanted) + ": export again");
}

Ort::SessionOptions session_options(const Options& options) {
  Ort::SessionOptions result;
  result.SetLogSeverityLevel(ORT_LOGGING_LEVEL_ERROR);
  // A pool that keeps spinning after its call would slow what comes next: a grabber's thread, or another session.
  result.AddConfigEntry("session.force_spinning_stop", "1");
  if (options.threads > 0) result.SetIntraOpNumThreads(options.threads);
  return result;
}

Ort::Session start(const Ort::Env& env, const fs::path& path, const Options& options, const std::string& provider) {
  Ort::SessionOptions settings = session_options(options);
  append_provider(settings, provider);
  return Ort::Session(env, path.c_str(), settings);
}

/// Start a provider; on one that does not start, the CPU, as ONNX Runtime's Python package does.
Ort::Session start_or_fall_back(const Ort::Env& env, const fs::path& path, const Options& options,
                                std::string& provider) {
  if (provider != "cpu") {
    try {
      return start(env, path, options, provider);
    } catch (const Ort::Exception&) {
      provider = "cpu";
    }
  }
  return start(env, path, options, provider);
}

}  // namespace

OpenSession open_session(const fs::path& path, const Options& options) {
  require_version();
  OpenSession result;
  result.provider = choose_provider(options.provider);
  check_onnx_file(path);
  result.environment = share_environment();
  result.session = start_or_fall_back(*result.environment, path, options, result.provider);
  const std::string& started = result.provider;
  if (!options.provider.empty() && options.provider != started) {
    throw Error("provider " + options.provider + " did not start, only " + started +
                " did; check driver and libraries, or ask for " + started);
  }
  return result;
}

Card read_card(const Ort::Session& session, const fs::path& path) {
  Ort::AllocatorWithDefaultOptions allocator;
  const auto text = session.GetModelMetadata().LookupCustomMetadataMapAllocated(kMetadataKey, allocator);
  if (text != nullptr) return Card::from_json(text.get(), path_text(path));
  const fs::path side = side_file(path);
  std::error_code ignored;
  if (!fs::is_regular_file(side, ignored)) {
    throw Error(path_text(path) + " has no model card; expected a file that lrp-edge export wrote");
  }
  return Card::from_json(read_file(side), path_text(side));
}

void check_tensors(const Ort::Session& session, const Card& card, const fs::path& path) {
  Ort::AllocatorWithDefaultOptions allocator;
  Types inputs, outputs;
  Shapes shapes;
  for (std::size_t i = 0; i < session.GetInputCount(); ++i) {
    const std::string name = session.GetInputNameAllocated(i, allocator).get();
    const Ort::TypeInfo info = session.GetInputTypeInfo(i);
    inputs[name] = type_text(info);
    shapes[name] = shape_of(info);
  }
  for (std::size_t i = 0; i < session.GetOutputCount(); ++i) {
    const std::string name = session.GetOutputNameAllocated(i, allocator).get();
    const Ort::TypeInfo info = session.GetOutputTypeInfo(i);
    outputs[name] = type_text(info);
    shapes[name] = shape_of(info);
  }
  require_types(path, "input", inputs, {{"image", "uint8"}});
  require_types(path, "output", outputs,
                {{"scores", "float32"}, {"label", "int32"}, {"mask", "uint8"}, {"relevance", "float32"}});
  const auto extent = [](std::size_t value) { return static_cast<std::int64_t>(value); };
  Shape image{-1, -1, -1, extent(card.input.channels())};
  if (card.input.size) image = {-1, extent(card.input.size->height), extent(card.input.size->width), image[3]};
  require_shape(path, "input", "image", shapes["image"], image);
  require_shape(path, "output", "scores", shapes["scores"], {-1, extent(card.classes.size())});
}

std::string reason(const Ort::Exception& error) {
  const auto code = static_cast<std::size_t>(error.GetOrtErrorCode());
  return first_line("[ONNXRuntimeError] : " + std::to_string(code) + " : " +
                    (code < kCodes.size() ? kCodes[code] : "GENERAL ERROR") + " : " + error.what());
}

}  // namespace lrp_edge

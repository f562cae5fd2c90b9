#include "onnx_check.hpp"

#include "files.hpp"

#include <lrp_edge/error.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace lrp_edge {
namespace {

/// ONNX Runtime before 1.32 follows functions that call one another until the stack is exhausted: the process ends.
constexpr std::size_t kMostFunctions = 100;

/// Messages of onnx.proto3 that may hold tensors.
enum class Message { kNone, kModel, kGraph, kFunction, kNode, kAttribute, kSparseTensor, kTensor };

constexpr std::uint64_t kFunctions = 25, kExternalData = 13, kDataLocation = 14;

/// Which message a field of a message is.
Message inner(Message message, std::uint64_t field) {
  switch (message) {
    case Message::kModel:
      return field == 7 ? Message::kGraph : field == kFunctions ? Message::kFunction : Message::kNone;
    case Message::kGraph:
      return field == 1    ? Message::kNode
             : field == 5  ? Message::kTensor
             : field == 15 ? Message::kSparseTensor
                           : Message::kNone;
    case Message::kFunction:
      return field == 7 ? Message::kNode : field == 11 ? Message::kAttribute : Message::kNone;
    case Message::kNode:
      return field == 5 ? Message::kAttribute : Message::kNone;
    case Message::kAttribute:
      return field == 5 || field == 10    ? Message::kTensor
             : field == 6 || field == 11  ? Message::kGraph
             : field == 22 || field == 23 ? Message::kSparseTensor
                                          : Message::kNone;
    case Message::kSparseTensor:
      return field == 1 || field == 2 ? Message::kTensor : Message::kNone;
    default:
      return Message::kNone;
  }
}

/// The fields of a message of protobuf, up to where it is broken, which nothing else reads beyond either.
class Fields {
 public:
  explicit Fields(std::string_view data) : data_(data) {}

  /// Go on to the next field; its number, and its value if that is bytes.
  bool next() {
    const auto key = varint();
    if (!key) return false;
    number = *key >> 3U;
    value = {};
    switch (*key & 7U) {
      case 0:
        return varint().has_value();
      case 1:
        return take(8).has_value();
      case 5:
        return take(4).has_value();
      case 2: {
        const auto length = varint();
        const auto bytes = length ? take(*length) : std::nullopt;
        value = bytes.value_or(std::string_view());
        return bytes.has_value();
      }
      default:
        return false;
    }
  }

  std::uint64_t number = 0;
  std::string_view value;

 private:
  std::optional<std::uint64_t> varint() {
    std::uint64_t result = 0;
    for (unsigned shift = 0; shift < 70 && !data_.empty(); shift += 7) {
      const auto byte = static_cast<unsigned char>(data_.front());
      data_.remove_prefix(1);
      if (shift < 64) result |= std::uint64_t{byte & 0x7FU} << shift;
      if (byte < 0x80) return result;
    }
    return std::nullopt;
  }

  std::optional<std::string_view> take(std::uint64_t length) {
    if (length > data_.size()) return std::nullopt;
    const auto taken = data_.substr(0, static_cast<std::size_t>(length));
    data_.remove_prefix(taken.size());
    return taken;
  }

  std::string_view data_;
};

std::size_t count_functions(std::string_view data) {
  std::size_t found = 0;
  for (Fields fields(data); fields.next();) found += fields.number == kFunctions ? 1 : 0;
  return found;
}

bool has_external_data(std::string_view data) {
  struct Waiting {
    Message message;
    std::string_view data;
  };
  // What names the place has this key.
  if (data.find("location") == std::string_view::npos) return false;
  std::vector<Waiting> waiting{{Message::kModel, data}};
  while (!waiting.empty()) {
    const Waiting current = waiting.back();
    waiting.pop_back();
    for (Fields fields(current.data); fields.next();) {
      const bool elsewhere = fields.number == kExternalData || fields.number == kDataLocation;
      if (current.message == Message::kTensor && elsewhere) return true;
      const Message message = inner(current.message, fields.number);
      if (message != Message::kNone) waiting.push_back({message, fields.value});
    }
  }
  return false;
}

}  // namespace

void check_onnx_file(const std::filesystem::path& path) {
  require_file(path);
  const std::string data = read_file(path);
  if (const std::size_t functions = count_functions(data); functions > kMostFunctions) {
    throw Error(path_text(path) + " has " + std::to_string(functions) + " functions of its own; expected at most " +
                std::to_string(kMostFunctions) + ": export the model again");
  }
  if (has_external_data(data)) {
    throw Error(path_text(path) + " has weights in another file; expected all in one: export the model again");
  }
}

}  // namespace lrp_edge

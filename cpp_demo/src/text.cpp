#include "text.hpp"

#include <algorithm>
#include <array>
#include <cstdio>

namespace lrp_edge {
namespace {

constexpr std::string_view kSpace = " \t\r\n\v\f";

std::string escaped(unsigned char byte) {
  constexpr std::string_view digits = "0123456789abcdef";
  switch (byte) {
    case '\n':
      return "\\n";
    case '\r':
      return "\\r";
    case '\t':
      return "\\t";
    case '\\':
      return "\\\\";
    default:
      return {'\\', 'x', digits[byte >> 4U], digits[byte & 15U]};
  }
}

}  // namespace

std::string in_quotes(std::string_view text) {
  const bool has_single = text.find('\'') != std::string_view::npos;
  const bool has_double = text.find('"') != std::string_view::npos;
  const char quote = has_single && !has_double ? '"' : '\'';
  std::string result(1, quote);
  for (const char character : text) {
    const auto byte = static_cast<unsigned char>(character);
    if (character == quote) {
      result += '\\';
      result += character;
    } else if (byte < 0x20 || byte == 0x7f || character == '\\') {
      result += escaped(byte);
    } else {
      result += character;
    }
  }
  return result + quote;
}

bool contains(const std::vector<std::string>& texts, std::string_view text) noexcept {
  return std::find(texts.begin(), texts.end(), text) != texts.end();
}

std::string list_in_quotes(const std::vector<std::string>& texts) {
  std::vector<std::string> each;
  each.reserve(texts.size());
  for (const auto& text : texts) each.push_back(in_quotes(text));
  return "[" + joined(each) + "]";
}

std::string joined(const std::vector<std::string>& texts, std::string_view separator) {
  std::string result;
  for (std::size_t i = 0; i < texts.size(); ++i) {
    if (i != 0) result += separator;
    result += texts[i];
  }
  return result;
}

std::string shape_text(const std::vector<std::size_t>& shape) {
  std::vector<std::string> each;
  each.reserve(shape.size());
  for (const std::size_t extent : shape) each.push_back(std::to_string(extent));
  return "[" + joined(each) + "]";
}

std::string number_text(double number) {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%g", number);
  return text.data();
}

std::string batch_text(Span<const FrameView> frames) {
  return shape_text({frames.size(), frames[0].height, frames[0].width, frames[0].channels});
}

std::string first_line(std::string_view message) {
  const std::size_t begin = message.find_first_not_of(kSpace);
  if (begin == std::string_view::npos) return {};
  message = message.substr(begin);
  message = message.substr(0, message.find_first_of("\r\n"));
  return std::string(message.substr(0, message.find_last_not_of(kSpace) + 1));
}

}  // namespace lrp_edge

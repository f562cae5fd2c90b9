/// @file
/// Texts in lists and in errors, written as Python writes them.
#ifndef LRP_EDGE_SRC_TEXT_HPP
#define LRP_EDGE_SRC_TEXT_HPP

#include <lrp_edge/views.hpp>

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace lrp_edge {

/// Text in quotes, as Python's repr() has it; control characters are escaped.
std::string in_quotes(std::string_view text);

bool contains(const std::vector<std::string>& texts, std::string_view text) noexcept;

/// `['a', 'b']`
std::string list_in_quotes(const std::vector<std::string>& texts);

/// `a, b`
std::string joined(const std::vector<std::string>& texts, std::string_view separator = ", ");

/// `[1, 480, 640, 3]`
std::string shape_text(const std::vector<std::size_t>& shape);

/// A number in at most six digits.
std::string number_text(double number);

/// `[N, H, W, C]` of frames that have been checked.
std::string batch_text(Span<const FrameView> frames);

/// The first line of a message, without white space around it.
std::string first_line(std::string_view message);

}  // namespace lrp_edge

#endif

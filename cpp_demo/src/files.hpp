/// @file
/// Model files and the cards next to them.
#ifndef LRP_EDGE_SRC_FILES_HPP
#define LRP_EDGE_SRC_FILES_HPP

#include <filesystem>
#include <string>

namespace lrp_edge {

/// A path as Python's pathlib writes it: no `.` and no doubled separators.
std::filesystem::path normal_path(const std::filesystem::path& path);

/// A path in UTF-8, for an error.
std::string path_text(const std::filesystem::path& path);

/// @throws Error If there is no such file.
void require_file(const std::filesystem::path& path);

/// `model.json` of `model.onnx`.
std::filesystem::path side_file(const std::filesystem::path& path);

/// All bytes of a file.
/// @throws Error If it cannot be read.
std::string read_file(const std::filesystem::path& path);

}  // namespace lrp_edge

#endif

/// @file
/// What of an ONNX file must be known before ONNX Runtime reads it.
#ifndef LRP_EDGE_SRC_ONNX_CHECK_HPP
#define LRP_EDGE_SRC_ONNX_CHECK_HPP

#include <filesystem>

namespace lrp_edge {

/// Refuse a file that would harm before it is refused; whether it is ONNX, ONNX Runtime says. As Python's package does.
/// @throws Error If there is no such file, it cannot be read, has many functions of its own, or weights in another file.
void check_onnx_file(const std::filesystem::path& path);

}  // namespace lrp_edge

#endif

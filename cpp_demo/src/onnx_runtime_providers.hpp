/// @file
/// ONNX Runtime's providers by their short names.
#ifndef LRP_EDGE_SRC_ONNX_RUNTIME_PROVIDERS_HPP
#define LRP_EDGE_SRC_ONNX_RUNTIME_PROVIDERS_HPP

#include <onnxruntime_cxx_api.h>

#include <string>
#include <string_view>

namespace lrp_edge {

/// The provider to try: the one that is asked for, or CUDA if this ONNX Runtime has it, else the CPU.
/// @throws Error If there is no such provider, or this ONNX Runtime does not have it.
std::string choose_provider(const std::string& asked);

/// Add a provider to a session's options; the CPU needs none.
/// @throws Ort::Exception If it does not load.
void append_provider(Ort::SessionOptions& options, std::string_view provider);

}  // namespace lrp_edge

#endif

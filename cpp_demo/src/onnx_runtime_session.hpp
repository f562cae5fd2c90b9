/// @file
/// Opening an ONNX file with ONNX Runtime.
#ifndef LRP_EDGE_SRC_ONNX_RUNTIME_SESSION_HPP
#define LRP_EDGE_SRC_ONNX_RUNTIME_SESSION_HPP

#include "onnx_runtime_environment.hpp"

#include <lrp_edge/card.hpp>
#include <lrp_edge/segmenter.hpp>

#include <onnxruntime_cxx_api.h>

#include <filesystem>
#include <string>

namespace lrp_edge {

/// A session and what keeps it alive, in the order in which they are made.
struct OpenSession {
  Environment environment;
  Ort::Session session{nullptr};
  std::string provider;
};

/// @throws Error If there is no such file, or the provider is not installed or does not start.
/// @throws Ort::Exception If it is not ONNX.
OpenSession open_session(const std::filesystem::path& path, const Options& options);

/// Read the card from a file's metadata, else from `<name>.json` next to it.
/// @throws Error If there is none, or it is not what it should be.
Card read_card(const Ort::Session& session, const std::filesystem::path& path);

/// Compare a file's tensors with the contract's, and the shapes of frames and scores with its card.
/// @throws Error If one is missing, of another type, or not of the card's classes, channel order and size.
void check_tensors(const Ort::Session& session, const Card& card, const std::filesystem::path& path);

/// An error of ONNX Runtime as Python's package words it, its first line.
std::string reason(const Ort::Exception& error);

}  // namespace lrp_edge

#endif

/// @file
/// ONNX Runtime's environment, which all sessions of a process share.
#ifndef LRP_EDGE_SRC_ONNX_RUNTIME_ENVIRONMENT_HPP
#define LRP_EDGE_SRC_ONNX_RUNTIME_ENVIRONMENT_HPP

#include <onnxruntime_cxx_api.h>

#include <memory>

namespace lrp_edge {

/// Gives up a share.
struct ReleaseEnvironment {
  void operator()(Ort::Env* environment) const noexcept;
};

using Environment = std::unique_ptr<Ort::Env, ReleaseEnvironment>;

/// To be called before anything else of ONNX Runtime.
/// @throws Error If it is older than its headers that lrp_edge was built with.
void require_version();

/// Take a share; any thread may.
/// @throws Ort::Exception If ONNX Runtime does not start.
Environment share_environment();

}  // namespace lrp_edge

#endif

/// In place of tensorrt.cpp in a build without TensorRT.

#include "backend.hpp"
#include "files.hpp"

#include <lrp_edge/error.hpp>

namespace lrp_edge {

std::unique_ptr<Backend> open_tensorrt(const std::filesystem::path& path, const Options&) {
  require_file(path);
  throw Error(path_text(path) +
              " is an engine, and this lrp_edge was built without TensorRT; run the .onnx, or build lrp_edge "
              "with -DTENSORRT_ROOT=");
}

}  // namespace lrp_edge

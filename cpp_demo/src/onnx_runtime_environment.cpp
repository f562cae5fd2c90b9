#include "onnx_runtime_environment.hpp"

#include <lrp_edge/error.hpp>

#include <cstdlib>
#include <mutex>
#include <string>

namespace lrp_edge {
namespace {

/// ONNX Runtime 1.32 sends usage telemetry, on Linux too, unless it finds this when it starts. What a line
/// inspects is nobody else's business, and a device may have no disk for queued reports.
bool keep_to_ourselves() noexcept {
  constexpr const char* name = "ORT_DISABLE_TELEMETRY";
#if defined(_WIN32)
  return std::getenv(name) != nullptr || _putenv_s(name, "1") == 0;
#else
  return setenv(name, "1", 0) == 0;
#endif
}

// When the library is loaded there are mostly no other threads, which might read the process's environment meanwhile.
[[maybe_unused]] const bool kept = keep_to_ourselves();

/// ONNX Runtime fails to make its environment if the last share of the one before is being given up at that moment, so
/// that these two take turns.
std::mutex& turns() noexcept {
  static std::mutex mutex;
  return mutex;
}

}  // namespace

void ReleaseEnvironment::operator()(Ort::Env* environment) const noexcept {
  const std::lock_guard<std::mutex> lock(turns());
  const std::unique_ptr<Ort::Env> owner(environment);
}

void require_version() {
  if (OrtGetApiBase()->GetApi(ORT_API_VERSION) == nullptr) {
    throw Error(std::string("ONNX Runtime ") + OrtGetApiBase()->GetVersionString() + " is older than the headers (1." +
                std::to_string(ORT_API_VERSION) + ") that lrp_edge was built with; install a newer one");
  }
}

Environment share_environment() {
  const std::lock_guard<std::mutex> lock(turns());
  auto environment = std::make_unique<Ort::Env>(ORT_LOGGING_LEVEL_ERROR, "lrp_edge");
  environment->DisableTelemetryEvents();
  return Environment(environment.release());
}

}  // namespace lrp_edge

#include "onnx_runtime_providers.hpp"

#include "text.hpp"

#include <lrp_edge/error.hpp>

#include <algorithm>
#include <array>
#include <memory>
#include <vector>

namespace lrp_edge {
namespace {

struct Provider {
  const char* name;     ///< The short one.
  const char* full;     ///< ONNX Runtime's.
  const char* package;  ///< What pip installs it with.
};

constexpr std::array<Provider, 5> kProviders{{
    {"cuda", "CUDAExecutionProvider", "'lrp-edge[gpu]'"},
    {"cpu", "CPUExecutionProvider", "'lrp-edge[cpu]'"},
    {"tensorrt", "TensorrtExecutionProvider", "'lrp-edge[gpu]'"},
    {"nv_tensorrt_rtx", "NvTensorRTRTXExecutionProvider", "onnxruntime-trt-rtx, in place of onnxruntime"},
    {"openvino", "OpenVINOExecutionProvider", "'lrp-edge[openvino]'"},
}};

bool has(const Provider& provider) {
  return contains(Ort::GetAvailableProviders(), provider.full);
}

void append_cuda(Ort::SessionOptions& options) {
  const OrtApi& api = Ort::GetApi();
  OrtCUDAProviderOptionsV2* cuda = nullptr;
  Ort::ThrowOnError(api.CreateCUDAProviderOptions(&cuda));
  const std::unique_ptr<OrtCUDAProviderOptionsV2, decltype(api.ReleaseCUDAProviderOptions)> owner(
      cuda, api.ReleaseCUDAProviderOptions);
  options.AppendExecutionProvider_CUDA_V2(*cuda);
}

void append_tensorrt(Ort::SessionOptions& options) {
  const OrtApi& api = Ort::GetApi();
  OrtTensorRTProviderOptionsV2* tensorrt = nullptr;
  Ort::ThrowOnError(api.CreateTensorRTProviderOptions(&tensorrt));
  const std::unique_ptr<OrtTensorRTProviderOptionsV2, decltype(api.ReleaseTensorRTProviderOptions)> owner(
      tensorrt, api.ReleaseTensorRTProviderOptions);
  options.AppendExecutionProvider_TensorRT_V2(*tensorrt);
  append_cuda(options);
}

}  // namespace

std::string choose_provider(const std::string& asked) {
  if (asked.empty()) return has(kProviders[0]) ? "cuda" : "cpu";
  const auto found = std::find_if(kProviders.begin(), kProviders.end(),
                                  [&](const Provider& provider) { return provider.name == asked; });
  if (found == kProviders.end()) {
    std::vector<std::string> names;
    for (const Provider& provider : kProviders) names.emplace_back(provider.name);
    throw Error("no provider " + in_quotes(asked) + "; expected one of " + joined(names));
  }
  if (!has(*found)) {
    throw Error(std::string("this ONNX Runtime has no ") + found->full + "; install it with pip install " +
                found->package);
  }
  return asked;
}

void append_provider(Ort::SessionOptions& options, std::string_view provider) {
  if (provider == "cuda") append_cuda(options);
  if (provider == "tensorrt") append_tensorrt(options);
  if (provider == "nv_tensorrt_rtx") options.AppendExecutionProvider("NvTensorRTRTX");
  if (provider == "openvino") options.AppendExecutionProvider_OpenVINO_V2();
}

}  // namespace lrp_edge

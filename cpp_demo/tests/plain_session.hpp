/// @file
/// ONNX Runtime without lrp_edge: the same session with the same settings, to compare with.
#ifndef LRP_EDGE_TESTS_PLAIN_SESSION_HPP
#define LRP_EDGE_TESTS_PLAIN_SESSION_HPP

#include <onnxruntime_cxx_api.h>

#include <array>
#include <cstdint>
#include <string>
#include <vector>

class PlainSession {
 public:
  PlainSession(const std::string& model, std::uint8_t* frames, const std::array<std::int64_t, 4>& shape,
               std::int64_t classes)
      : session_(env_, model.c_str(), settings()) {
    const std::int64_t count = shape[0], pixels = count * shape[1] * shape[2];
    scores_.resize(static_cast<std::size_t>(count * classes));
    label_.resize(static_cast<std::size_t>(count));
    mask_.resize(static_cast<std::size_t>(pixels));
    relevance_.resize(static_cast<std::size_t>(pixels));
    const std::array<std::int64_t, 2> per_class{count, classes};
    const std::array<std::int64_t, 3> plane{count, shape[1], shape[2]};
    input_ = Ort::Value::CreateTensor<std::uint8_t>(memory_, frames, static_cast<std::size_t>(pixels * shape[3]),
                                                    shape.data(), 4);
    outputs_.push_back(Ort::Value::CreateTensor<float>(memory_, scores_.data(), scores_.size(), per_class.data(), 2));
    outputs_.push_back(Ort::Value::CreateTensor<std::int32_t>(memory_, label_.data(), label_.size(), &shape[0], 1));
    outputs_.push_back(Ort::Value::CreateTensor<std::uint8_t>(memory_, mask_.data(), mask_.size(), plane.data(), 3));
    outputs_.push_back(Ort::Value::CreateTensor<float>(memory_, relevance_.data(), relevance_.size(), plane.data(), 3));
  }

  void run() {
    const char* const input = "image";
    const std::array<const char*, 4> outputs{"scores", "label", "mask", "relevance"};
    session_.Run(run_options_, &input, &input_, 1, outputs.data(), outputs_.data(), outputs_.size());
  }

 private:
  static Ort::SessionOptions settings() {
    Ort::SessionOptions options;
    options.SetLogSeverityLevel(ORT_LOGGING_LEVEL_ERROR);
    options.AddConfigEntry("session.force_spinning_stop", "1");
    options.SetIntraOpNumThreads(1);
    return options;
  }

  Ort::Env env_{ORT_LOGGING_LEVEL_ERROR, "plain"};
  Ort::Session session_;
  Ort::RunOptions run_options_;
  Ort::MemoryInfo memory_ = Ort::MemoryInfo::CreateCpu(OrtDeviceAllocator, OrtMemTypeDefault);
  std::vector<float> scores_, relevance_;
  std::vector<std::int32_t> label_;
  std::vector<std::uint8_t> mask_;
  Ort::Value input_{nullptr};
  std::vector<Ort::Value> outputs_;
};

#endif

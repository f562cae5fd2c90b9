#include "common/program.hpp"

#include <exception>
#include <iostream>

namespace programs {

void ModelOptions::add_to(CLI::App& app) {
  app.add_option("model", path, "A file of lrp-edge export or lrp-edge compile")->required();
  app.add_option("--provider", options.provider,
                 "cpu, cuda, tensorrt, nv_tensorrt_rtx or openvino, for an ONNX file [default: cuda, else cpu]");
  app.add_option("--threads", options.threads, "Threads of one call on the CPU [default: all cores]")
      ->check(CLI::PositiveNumber);
  app.add_option("--min-area", options.min_area, "Smallest region that counts, in pixels")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
}

void warn_of(const lrp_edge::Card& card, const std::string& program) {
  const char* before = "the model is not usable: ";
  if (card.unusable.empty()) return;
  std::cerr << program << ": ";
  for (const std::string& doubt : card.unusable) {
    std::cerr << before << doubt;
    before = "; ";
  }
  std::cerr << "\n";
}

int run_program(CLI::App& app, int count, char** words, const std::function<int()>& body) {
  try {
    app.parse(count, words);
    return body();
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kDone : kMisused;
  } catch (const std::exception& error) {
    std::cerr << app.get_name() << ": " << error.what() << "\n";
    return kFailed;
  }
}

}  // namespace programs

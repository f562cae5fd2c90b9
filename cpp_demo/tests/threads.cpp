/// lrp_edge_threads MODEL ROUNDS [race]: segmenters in several threads at once, and one that is handed from thread to
/// thread.
///
/// Each thread compares its results with those that one segmenter gave alone. With "race", two threads use one
/// segmenter at once, which is wrong: ThreadSanitizer must see it.

#include <lrp_edge.h>
#include <lrp_edge/lrp_edge.hpp>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace {

constexpr std::size_t kHeight = 24, kWidth = 32, kThreads = 4;

lrp_edge::Options on_one_core() {
  lrp_edge::Options options;
  options.provider = "cpu";
  options.threads = 1;
  return options;
}

std::vector<std::uint8_t> frame_of(std::size_t shade) {
  std::vector<std::uint8_t> bytes(kHeight * kWidth * 3);
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::uint8_t>(i * (shade + 3) + shade);
  return bytes;
}

lrp_edge::FrameView view(const std::vector<std::uint8_t>& bytes) {
  return {bytes.data(), kHeight, kWidth, 3, 0};
}

/// What must be the same again.
struct Answer {
  explicit Answer(const lrp_edge::Result& result)
      : relevance(result.relevance.data, result.relevance.data + result.relevance.size()),
        label(result.label),
        regions(result.regions.size()) {}

  bool operator==(const Answer& other) const {
    return relevance == other.relevance && label == other.label && regions == other.regions;
  }

  std::vector<float> relevance;
  std::int32_t label;
  std::size_t regions;
};

std::vector<Answer> answers_alone(const std::string& model) {
  lrp_edge::Segmenter segmenter(model, on_one_core());
  std::vector<Answer> answers;
  for (std::size_t shade = 0; shade < kThreads; ++shade) answers.emplace_back(segmenter.run(view(frame_of(shade))));
  return answers;
}

/// A segmenter for each thread.
std::size_t differences_side_by_side(const std::string& model, std::size_t rounds,
                                     const std::vector<Answer>& expected) {
  std::atomic<std::size_t> differences{0};
  std::vector<std::thread> threads;
  for (std::size_t shade = 0; shade < kThreads; ++shade) {
    threads.emplace_back([&, shade] {
      lrp_edge::Segmenter segmenter(model, on_one_core());
      const std::vector<std::uint8_t> frame = frame_of(shade);
      for (std::size_t i = 0; i < rounds; ++i) {
        if (!(Answer(segmenter.run(view(frame))) == expected[shade])) ++differences;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  return differences;
}

/// One segmenter, which each thread uses in its turn.
std::size_t differences_in_turns(const std::string& model, std::size_t rounds, const std::vector<Answer>& expected) {
  lrp_edge::Segmenter segmenter(model, on_one_core());
  std::mutex mutex;
  std::condition_variable changed;
  std::size_t turn = 0, differences = 0;
  std::vector<std::thread> threads;
  for (std::size_t shade = 0; shade < kThreads; ++shade) {
    threads.emplace_back([&, shade] {
      const std::vector<std::uint8_t> frame = frame_of(shade);
      for (std::size_t i = 0; i < rounds; ++i) {
        std::unique_lock<std::mutex> lock(mutex);
        changed.wait(lock, [&] { return turn % kThreads == shade; });
        if (!(Answer(segmenter.run(view(frame))) == expected[shade])) ++differences;
        ++turn;
        changed.notify_all();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  return differences;
}

/// Files that are not models, so that ONNX Runtime is started and released all the time.
std::size_t refused_otherwise(const std::string& file, std::size_t rounds) {
  std::atomic<std::size_t> wrong{0};
  std::vector<std::thread> threads;
  for (std::size_t index = 0; index < kThreads; ++index) {
    threads.emplace_back([&] {
      for (std::size_t i = 0; i < rounds; ++i) {
        try {
          const lrp_edge::Segmenter segmenter(file, on_one_core());
        } catch (const lrp_edge::Error& error) {
          if (std::strstr(error.what(), "INVALID_PROTOBUF") == nullptr) ++wrong;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  return wrong;
}

/// Each thread has the error of its own call.
std::size_t errors_mixed_up(std::size_t rounds) {
  std::atomic<std::size_t> wrong{0};
  std::vector<std::thread> threads;
  for (std::size_t index = 0; index < kThreads; ++index) {
    threads.emplace_back([&wrong, rounds, path = "missing-" + std::to_string(index) + ".onnx"] {
      for (std::size_t i = 0; i < rounds; ++i) {
        lrp_edge_segmenter* segmenter = nullptr;
        const lrp_edge_status status = lrp_edge_create(path.c_str(), nullptr, &segmenter);
        if (status != LRP_EDGE_ERROR || lrp_edge_last_error(nullptr) != "no model at " + path) ++wrong;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  return wrong;
}

void race(const std::string& model, std::size_t rounds) {
  lrp_edge::Segmenter segmenter(model, on_one_core());
  const auto use = [&] {
    const std::vector<std::uint8_t> frame = frame_of(1);
    for (std::size_t i = 0; i < rounds; ++i) segmenter.run(view(frame));
  };
  std::thread other(use);
  use();
  other.join();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) return 2;
  const std::string model = argv[1];
  const std::size_t rounds = std::strtoul(argv[2], nullptr, 10);
  if (argc > 3) {
    race(model, rounds);
    return 0;
  }
  const std::vector<Answer> expected = answers_alone(model);
  const std::size_t differences =
      differences_side_by_side(model, rounds, expected) + differences_in_turns(model, rounds, expected);
  const std::size_t other = refused_otherwise(argv[0], 10 * rounds), wrong = errors_mixed_up(rounds);
  std::cout << differences << " results differ, " << other << " files are refused otherwise, " << wrong
            << " errors are another thread's\n";
  return differences + other + wrong == 0 ? 0 : 1;
}

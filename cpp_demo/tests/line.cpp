/// lrp_edge_line_test MODEL: what passes between the programs' threads arrives whole, in order and once.

#include "inspection_line.hpp"
#include "latest_slot.hpp"

#include <lrp_edge/lrp_edge.hpp>

#include <chrono>
#include <cstdint>
#include <iostream>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace {

using namespace programs;
using namespace std::chrono_literals;

constexpr std::size_t kHeight = 24, kWidth = 32, kFrames = 5, kGap = 7;

/// A frame with gaps between its rows, and what the model says of it.
struct Known {
  std::vector<std::uint8_t> pixels;
  lrp_edge::FrameView frame;
  std::int32_t label = 0;
  std::vector<float> scores, relevance;
  std::vector<std::uint8_t> mask;
  std::size_t regions = 0;

  Known(unsigned seed, lrp_edge::Segmenter& segmenter) : pixels(kHeight * (kWidth * 3 + kGap)) {
    std::mt19937 random(seed);
    for (auto& pixel : pixels) pixel = static_cast<std::uint8_t>(random() % 128 + seed * 30);
    frame = {pixels.data(), kHeight, kWidth, 3, kWidth * 3 + kGap};
    const lrp_edge::Result& result = segmenter.run(frame);
    label = result.label;
    scores.assign(result.scores.begin(), result.scores.end());
    mask.assign(result.mask.data, result.mask.data + result.mask.size());
    relevance.assign(result.relevance.data, result.relevance.data + result.relevance.size());
    regions = result.regions.size();
  }

  bool is(const lrp_edge::Result& result) const {
    return result.label == label && std::vector<float>(result.scores.begin(), result.scores.end()) == scores &&
           std::vector<std::uint8_t>(result.mask.data, result.mask.data + result.mask.size()) == mask &&
           std::vector<float>(result.relevance.data, result.relevance.data + result.relevance.size()) == relevance &&
           result.regions.size() == regions;
  }
};

struct Speed {
  std::uint64_t parts;
  std::chrono::microseconds period, deadline, output;
  std::size_t buffers;
};

/// Let parts pass, and count verdicts that are out of order, of another part, or do not add up.
LineCounts pass(lrp_edge::Segmenter& segmenter, const std::vector<Known>& known, const Speed& speed, int& wrong) {
  LineOptions options;
  options.height = kHeight;
  options.width = kWidth;
  options.buffers = speed.buffers;
  options.deadline = speed.deadline;
  std::uint64_t next = 0, rejected = 0;
  InspectionLine line(segmenter, options, [&](const Verdict& verdict) {
    wrong += verdict.part == next++ ? 0 : 1;
    wrong += (verdict.result != nullptr) == (verdict.outcome == Outcome::in_time) ? 0 : 1;
    wrong += verdict.result != nullptr && !known[verdict.part % kFrames].is(*verdict.result) ? 1 : 0;
    wrong += verdict.reject == verdict.reason.empty() ? 1 : 0;
    rejected += verdict.reject ? 1 : 0;
    std::this_thread::sleep_for(speed.output);
  });
  for (std::uint64_t part = 0; part < speed.parts; ++part) {
    line.trigger(known[part % kFrames].frame);
    std::this_thread::sleep_for(speed.period);
  }
  line.finish();
  const LineCounts counts = line.counts();
  wrong += next == speed.parts && counts.triggers == speed.parts ? 0 : 1;
  wrong += counts.in_time + counts.late + counts.missed == counts.triggers && counts.rejected == rejected ? 0 : 1;
  return counts;
}

/// Hand numbers from a thread to another, and count those that come twice, out of order, or are not accounted for.
int hand_over(bool wait) {
  constexpr int kCount = 5000;
  LatestSlot<std::vector<int>> slot;
  int lost = 0, taken = 0, last = -1, wrong = 0;
  std::thread source([&] {
    std::vector<int> value;
    for (int number = 0; number < kCount; ++number) {
      value.assign(100, number);
      lost += slot.put(value, wait) ? 1 : 0;
    }
    slot.close();
  });
  for (std::vector<int> value; slot.take(value); ++taken) {
    wrong += value == std::vector<int>(100, value[0]) && value[0] > last ? 0 : 1;
    last = value[0];
  }
  source.join();
  wrong += last == kCount - 1 && taken + lost == kCount && (!wait || lost == 0) ? 0 : 1;
  return wrong;
}

/// Give a line frames that are not its own between good ones, and count what is not as it should be.
int miss(lrp_edge::Segmenter& segmenter, const Known& known) {
  std::vector<lrp_edge::FrameView> frames(13, known.frame);
  frames[1].height -= 1;
  frames[3].width += 1;
  frames[5].channels = 1;
  frames[7].data = nullptr;
  frames[9].stride = kWidth * 3 - 1;
  frames[11].stride = -frames[11].stride;
  LineOptions options;
  options.height = kHeight;
  options.width = kWidth;
  options.buffers = frames.size();
  options.deadline = 60s;
  int wrong = 0;
  std::uint64_t next = 0;
  InspectionLine line(segmenter, options, [&](const Verdict& verdict) {
    const bool good = verdict.part % 2 == 0;
    wrong += verdict.part == next++ && verdict.outcome == (good ? Outcome::in_time : Outcome::missed) ? 0 : 1;
    if (good) wrong += verdict.result != nullptr && known.is(*verdict.result) ? 0 : 1;
    if (!good) wrong += verdict.reject && verdict.reason == "no frame of the line's size" ? 0 : 1;
  });
  for (const lrp_edge::FrameView& frame : frames) line.trigger(frame);
  line.finish();
  wrong += next == frames.size() && line.counts().missed == 6 ? 0 : 1;
  return wrong;
}

/// Count the lines that can be made although no part would ever get a verdict.
int refuse(lrp_edge::Segmenter& segmenter) {
  int made = 0;
  for (const auto& [buffers, deadline] : {std::pair{0, 1ms}, std::pair{1, 0ms}, std::pair{1, -1ms}}) {
    LineOptions options;
    options.height = kHeight;
    options.width = kWidth;
    options.buffers = static_cast<std::size_t>(buffers);
    options.deadline = deadline;
    try {
      const InspectionLine line(segmenter, options, [](const Verdict&) {});
      ++made;
    } catch (const lrp_edge::Error& error) {
      made += std::string(error.what()).find("; expected 1 or more") == std::string::npos ? 1 : 0;
    }
  }
  return made;
}

}  // namespace

int main(int count, char** words) {
  if (count != 2) return 2;
  lrp_edge::Segmenter segmenter(words[1]);
  std::vector<Known> known;
  for (unsigned seed = 0; seed < kFrames; ++seed) known.emplace_back(seed, segmenter);
  int wrong = hand_over(false) + hand_over(true) + miss(segmenter, known[0]) + refuse(segmenter);
  const LineCounts slow = pass(segmenter, known, {60, 2ms, 60s, 0ms, 60}, wrong);
  const LineCounts fast = pass(segmenter, known, {1000, 20us, 3ms, 100us, 3}, wrong);
  wrong += slow.in_time == 60 && fast.missed > 0 ? 0 : 1;
  std::cout << wrong << " wrong\n";
  return wrong == 0 ? 0 : 1;
}

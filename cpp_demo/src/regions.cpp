#include "regions.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <cstring>

namespace lrp_edge {
namespace {

using Word = std::uint64_t;

/// Advance over bytes that are all 0, or all 255, by blocks as far as that goes: most of a mask is one or the other.
template <std::size_t Words>
std::size_t skip(const std::uint8_t* row, std::size_t x, std::size_t width, Word same) {
  for (; x + Words * sizeof(Word) <= width; x += Words * sizeof(Word)) {
    std::array<Word, Words> block;
    std::memcpy(block.data(), row + x, sizeof(block));
    Word other = 0;
    for (const Word word : block) other |= word ^ same;
    if (other != 0) break;
  }
  return x;
}

std::size_t first_set(const std::uint8_t* row, std::size_t x, std::size_t width) {
  x = skip<8>(row, x, width, 0);
  x = skip<1>(row, x, width, 0);
  while (x < width && row[x] == 0) ++x;
  return x;
}

std::size_t first_clear(const std::uint8_t* row, std::size_t x, std::size_t width) {
  x = skip<1>(row, x, width, ~Word{0});
  while (x < width && row[x] != 0) ++x;
  return x;
}

/// The first run of the region that a run belongs to, as far as it is known; halves the way for the next time.
std::uint32_t root_of(std::vector<Run>& runs, std::uint32_t index) {
  while (runs[index].root != index) {
    runs[index].root = runs[runs[index].root].root;
    index = runs[index].root;
  }
  return index;
}

void unite(std::vector<Run>& runs, std::size_t a, std::size_t b) {
  const std::uint32_t first = root_of(runs, static_cast<std::uint32_t>(a));
  const std::uint32_t second = root_of(runs, static_cast<std::uint32_t>(b));
  runs[std::max(first, second)].root = std::min(first, second);
}

std::int64_t turn(const Point& a, const Point& b, const Point& c) {
  const auto difference = [](std::int32_t to, std::int32_t from) { return std::int64_t{to} - from; };
  return difference(b.x, a.x) * difference(c.y, a.y) - difference(b.y, a.y) * difference(c.x, a.x);
}

/// Append one side of the convex hull of points that are sorted (Andrew's monotone chain).
template <class Iterator>
void append_side(Iterator begin, Iterator end, std::vector<Point>& hull) {
  const std::size_t base = hull.size();
  for (; begin != end; ++begin) {
    while (hull.size() >= base + 2 && turn(hull[hull.size() - 2], hull.back(), *begin) <= 0) hull.pop_back();
    hull.push_back(*begin);
  }
}

/// Greatest distance of two points of an outline. A pixel reaches half a pixel from its centre along the axes, so two
/// of them are one further apart along an axis than their centres.
double farthest(const std::vector<Point>& hull) {
  std::int64_t most = 0;
  for (std::size_t i = 0; i < hull.size(); ++i) {
    for (std::size_t j = i; j < hull.size(); ++j) {
      const std::int64_t dx = std::abs(std::int64_t{hull[i].x} - hull[j].x);
      const std::int64_t dy = std::abs(std::int64_t{hull[i].y} - hull[j].y);
      most = std::max({most, (dx + 1) * (dx + 1) + dy * dy, dx * dx + (dy + 1) * (dy + 1)});
    }
  }
  return std::sqrt(static_cast<double>(most));
}

}  // namespace

void RegionFinder::reserve(std::size_t height) {
  runs_.reserve(kUsualRuns);
  found_.reserve(kUsualRegions);
  points_.reserve(2 * height);
  hull_.reserve(4 * height);
}

void RegionFinder::find(const PlaneView<std::uint8_t>& mask, const PlaneView<float>& relevance, std::int64_t min_area,
                        std::vector<Region>& regions) {
  find_runs(mask);
  chain();
  found_.clear();
  for (std::uint32_t index = 0; index < runs_.size(); ++index) {
    if (runs_[index].root != index) continue;
    const std::int64_t area = area_of(index);
    if (area >= min_area) found_.push_back({measure(index, area, relevance), index});
  }
  std::sort(found_.begin(), found_.end(), [](const Found& a, const Found& b) {
    if (a.region.area != b.region.area) return a.region.area > b.region.area;
    if (a.region.y != b.region.y) return a.region.y < b.region.y;
    return a.region.x != b.region.x ? a.region.x < b.region.x : a.first < b.first;
  });
  for (const Found& each : found_) regions.push_back(each.region);
}

void RegionFinder::find_runs(const PlaneView<std::uint8_t>& mask) {
  runs_.clear();
  std::size_t above = 0;
  for (std::size_t y = 0; y < mask.height; ++y) {
    const std::uint8_t* const row = mask.data + y * mask.width;
    const std::size_t begin = runs_.size();
    for (std::size_t x = first_set(row, 0, mask.width); x < mask.width;) {
      const std::size_t end = first_clear(row, x, mask.width);
      const auto index = static_cast<std::uint32_t>(runs_.size());
      runs_.push_back({static_cast<std::int32_t>(y), static_cast<std::int32_t>(x), static_cast<std::int32_t>(end),
                       index, index, index});
      x = first_set(row, end, mask.width);
    }
    connect(above, begin);
    above = begin;
  }
}

void RegionFinder::connect(std::size_t above, std::size_t begin) {
  std::size_t upper = above;
  for (std::size_t lower = begin; lower < runs_.size() && upper < begin;) {
    const Run &a = runs_[upper], &b = runs_[lower];
    if (a.end >= b.begin && b.end >= a.begin) unite(runs_, upper, lower);
    if (runs_[upper].end < runs_[lower].end) {
      ++upper;
    } else {
      ++lower;
    }
  }
}

void RegionFinder::chain() {
  for (std::uint32_t index = 0; index < runs_.size(); ++index) {
    const std::uint32_t first = root_of(runs_, index);
    if (first == index) continue;
    runs_[index].root = first;
    runs_[runs_[first].last].next = index;
    runs_[first].last = index;
  }
}

std::int64_t RegionFinder::area_of(std::uint32_t first) const {
  std::int64_t area = runs_[first].end - runs_[first].begin;
  for (std::uint32_t i = first; runs_[i].next != i;) {
    i = runs_[i].next;
    area += runs_[i].end - runs_[i].begin;
  }
  return area;
}

double RegionFinder::sum_of(std::uint32_t first, const PlaneView<float>& relevance) const {
  double sum = 0;
  for (std::uint32_t i = first;; i = runs_[i].next) {
    const Run& run = runs_[i];
    const float* const row = relevance.data + static_cast<std::size_t>(run.y) * relevance.width;
    for (std::int32_t x = run.begin; x < run.end; ++x) sum += static_cast<double>(row[x]);
    if (run.next == i) return sum;
  }
}

Region RegionFinder::measure(std::uint32_t first, std::int64_t area, const PlaneView<float>& relevance) {
  outline(first);
  Region region;
  std::int32_t right = 0;
  region.x = points_[0].x;
  for (const Point& point : points_) {
    region.x = std::min(region.x, point.x);
    right = std::max(right, point.x);
  }
  region.y = points_.front().y;
  region.width = right + 1 - region.x;
  region.height = points_.back().y + 1 - region.y;
  region.area = area;
  hull_.clear();
  append_side(points_.begin(), points_.end(), hull_);
  append_side(points_.rbegin(), points_.rend(), hull_);
  region.extent = farthest(hull_);
  region.relevance = sum_of(first, relevance) / static_cast<double>(area);
  return region;
}

void RegionFinder::outline(std::uint32_t first) {
  points_.clear();
  for (std::uint32_t i = first;; i = runs_[i].next) {
    const Run& run = runs_[i];
    if (points_.empty() || points_.back().y != run.y) {
      points_.push_back({run.begin, run.y});
      points_.push_back({run.end - 1, run.y});
    } else {
      points_.back().x = run.end - 1;
    }
    if (run.next == i) break;
  }
}

}  // namespace lrp_edge

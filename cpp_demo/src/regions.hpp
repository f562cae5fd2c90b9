/// @file
/// From a mask to the list of its regions.
#ifndef LRP_EDGE_SRC_REGIONS_HPP
#define LRP_EDGE_SRC_REGIONS_HPP

#include <lrp_edge/result.hpp>

#include <cstddef>
#include <cstdint>
#include <vector>

namespace lrp_edge {

/// Regions and runs of a mask for which there is room from the start; noise may have more, and then makes room once.
inline constexpr std::size_t kUsualRegions = 4096;
inline constexpr std::size_t kUsualRuns = 65536;

/// Pixels of one row that are set, next to each other.
struct Run {
  std::int32_t y = 0;
  std::int32_t begin = 0;  ///< First x.
  std::int32_t end = 0;    ///< Last x and one.
  std::uint32_t root = 0;  ///< A run of the same region that comes earlier; its first one has itself.
  std::uint32_t next = 0;  ///< The region's next run; the last one has itself.
  std::uint32_t last = 0;  ///< In a region's first run: its last.
};

struct Point {
  std::int32_t x = 0;
  std::int32_t y = 0;
};

/// Finds the regions of masks, in buffers that it keeps. One thread at a time may use it.
class RegionFinder {
 public:
  /// Make room for masks of a height, as long as they have no more than the usual regions and runs.
  void reserve(std::size_t height);

  /// Append the regions of a mask to a list: by falling area; of equal ones the upper, then the left first.
  /// @param mask Not zero where a defect is.
  /// @param relevance Of the same size.
  /// @param min_area Regions of fewer pixels are left out.
  void find(const PlaneView<std::uint8_t>& mask, const PlaneView<float>& relevance, std::int64_t min_area,
            std::vector<Region>& regions);

 private:
  struct Found {
    Region region;
    std::uint32_t first = 0;
  };

  void find_runs(const PlaneView<std::uint8_t>& mask);
  /// Unite the runs of a row, which begin at an index and go to the end, with those of the row above.
  void connect(std::size_t above, std::size_t begin);
  void chain();
  std::int64_t area_of(std::uint32_t first) const;
  /// The sum of relevance, row by row, as NumPy adds it.
  double sum_of(std::uint32_t first, const PlaneView<float>& relevance) const;
  Region measure(std::uint32_t first, std::int64_t area, const PlaneView<float>& relevance);
  /// Leftmost and rightmost pixel of each row of a region.
  void outline(std::uint32_t first);

  std::vector<Run> runs_;
  std::vector<Found> found_;
  std::vector<Point> points_;
  std::vector<Point> hull_;
};

}  // namespace lrp_edge

#endif
